/* What graphs are made of. */
#ifndef EMU_GRAPH_H
#define EMU_GRAPH_H

#include "emu/emu.h"

struct emu_node {
	struct emu_graph *graph;
	CUgraphNodeType type;
	struct emu_op op;
	size_t index;
};
struct emu_edge {
	size_t from, to;
};
struct emu_graph {
	struct emu_node **nodes;
	size_t count, room;
	struct emu_edge *edges;
	size_t edges_count, edges_room;
};
struct emu_exec {
	struct emu_op *ops;
	size_t count;
};

/* NULL and false where there is no memory. */
struct emu_node *emu_node_add(struct emu_graph *graph, CUgraphNodeType type, const struct emu_op *op);
bool emu_edge_add(struct emu_graph *graph, size_t from, size_t to);

#endif
