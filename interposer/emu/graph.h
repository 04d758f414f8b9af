/* What graphs are made of. */
#ifndef EMU_GRAPH_H
#define EMU_GRAPH_H

#include "emu/emu.h"

/* What a node allocates: there from then on, until no graph and nothing instantiated has it any more. */
struct emu_graph_memory {
	int references;
	CUdeviceptr base;
};
struct emu_node {
	struct emu_graph *graph;
	CUgraphNodeType type;
	struct emu_op op;
	size_t index;
	struct emu_graph *child;
	struct emu_graph_memory *memory;
	CUDA_MEM_ALLOC_NODE_PARAMS_v1 wanted; /* where it allocates; of one that frees the address alone */
};
struct emu_edge {
	size_t from, to;
};
struct emu_graph {
	struct emu_node **nodes;
	size_t count, room;
	struct emu_edge *edges;
	size_t edges_count, edges_room;
	const struct emu_graph *origin; /* of which it is a copy */
	bool of_node;			/* a child, which goes with its node */
};
/* What a graph does, in an order in which all comes behind what it depends on. */
struct emu_exec {
	struct emu_op *ops;
	CUgraphNodeType *types;
	struct emu_graph_memory **memory;
	size_t count, room, memory_count;
};

/* NULL and false where there is no memory. */
struct emu_node *emu_node_add(struct emu_graph *graph, CUgraphNodeType type, const struct emu_op *op);
bool emu_edge_add(struct emu_graph *graph, size_t from, size_t to);
struct emu_graph *emu_graph_clone(const struct emu_graph *graph);
void emu_graph_delete(struct emu_graph *graph);
/* Adds a node behind others, all of which have to be the graph's. */
CUresult emu_node_behind(CUgraphNode *handle, CUgraph graph, const CUgraphNode *after, size_t count, CUgraphNodeType type,
			 const struct emu_op *op);
/* False where there is a ring, or no memory. */
bool emu_exec_fill(struct emu_exec *exec, const struct emu_graph *graph);
void emu_exec_empty(struct emu_exec *exec);
struct emu_graph_memory *emu_graph_memory_keep(struct emu_graph_memory *memory);
void emu_graph_memory_drop(struct emu_graph_memory *memory);

#endif
