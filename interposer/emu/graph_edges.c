/* What a graph looks like: its edges, its first nodes, what comes before and behind a node. */
#include "emu/graph.h"

#include <string.h>

/* A list that a program gives room for: so many at most are written, and all are counted. */
struct list {
	CUgraphNode *to;
	CUgraphEdgeData *edges;
	size_t room, count;
};

static void put(struct list *list, const struct emu_node *node)
{
	if (list->to != NULL && list->count < list->room) {
		list->to[list->count] = (CUgraphNode)(uintptr_t)node;
		if (list->edges != NULL)
			memset(&list->edges[list->count], 0, sizeof(*list->edges));
	}
	list->count++;
}

static CUresult done(struct list *list, size_t *count)
{
	for (size_t i = list->count; list->to != NULL && i < list->room; i++)
		list->to[i] = NULL;
	if (list->to == NULL || list->count < list->room)
		*count = list->count;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuGraphGetRootNodes(CUgraph handle, CUgraphNode *nodes, size_t *count)
{
	const struct emu_graph *graph = (const struct emu_graph *)handle;
	struct list list = {.to = nodes};

	CALL(cuGraphGetRootNodes);
	REFUSE_IF(!emu_is(EMU_GRAPH, graph) || count == NULL, CUDA_ERROR_INVALID_VALUE);
	list.room = *count;
	for (size_t i = 0; i < graph->count; i++) {
		bool first = true;

		for (size_t e = 0; e < graph->edges_count; e++)
			first &= graph->edges[e].to != i;
		if (first)
			put(&list, graph->nodes[i]);
	}
	return done(&list, count);
}

GPUMAX_EXPORT CUresult cuGraphGetEdges_v2(CUgraph handle, CUgraphNode *from, CUgraphNode *to, CUgraphEdgeData *edges, size_t *count)
{
	const struct emu_graph *graph = (const struct emu_graph *)handle;
	struct list starts = {.to = from, .edges = edges}, ends = {.to = to};

	CALL(cuGraphGetEdges_v2);
	REFUSE_IF(!emu_is(EMU_GRAPH, graph) || count == NULL || (from == NULL) != (to == NULL), CUDA_ERROR_INVALID_VALUE);
	starts.room = ends.room = *count;
	for (size_t e = 0; e < graph->edges_count; e++) {
		put(&starts, graph->nodes[graph->edges[e].from]);
		put(&ends, graph->nodes[graph->edges[e].to]);
	}
	done(&starts, count);
	return done(&ends, count);
}

GPUMAX_EXPORT CUresult cuGraphGetEdges(CUgraph graph, CUgraphNode *from, CUgraphNode *to, size_t *count)
{
	return cuGraphGetEdges_v2(graph, from, to, NULL, count);
}

static CUresult neighbours(CUgraphNode handle, bool before, struct list list, size_t *count)
{
	const struct emu_node *node = (const struct emu_node *)handle;
	const struct emu_graph *graph;

	REFUSE_IF(!emu_is(EMU_NODE, node) || count == NULL, CUDA_ERROR_INVALID_VALUE);
	graph = node->graph;
	list.room = *count;
	for (size_t e = 0; e < graph->edges_count; e++) {
		if (before && graph->edges[e].to == node->index)
			put(&list, graph->nodes[graph->edges[e].from]);
		else if (!before && graph->edges[e].from == node->index)
			put(&list, graph->nodes[graph->edges[e].to]);
	}
	return done(&list, count);
}

GPUMAX_EXPORT CUresult cuGraphNodeGetDependencies_v2(CUgraphNode node, CUgraphNode *others, CUgraphEdgeData *edges, size_t *count)
{
	CALL(cuGraphNodeGetDependencies_v2);
	return neighbours(node, true, (struct list){.to = others, .edges = edges}, count);
}

GPUMAX_EXPORT CUresult cuGraphNodeGetDependencies(CUgraphNode node, CUgraphNode *others, size_t *count)
{
	return cuGraphNodeGetDependencies_v2(node, others, NULL, count);
}

GPUMAX_EXPORT CUresult cuGraphNodeGetDependentNodes_v2(CUgraphNode node, CUgraphNode *others, CUgraphEdgeData *edges, size_t *count)
{
	CALL(cuGraphNodeGetDependentNodes_v2);
	return neighbours(node, false, (struct list){.to = others, .edges = edges}, count);
}

GPUMAX_EXPORT CUresult cuGraphNodeGetDependentNodes(CUgraphNode node, CUgraphNode *others, size_t *count)
{
	return cuGraphNodeGetDependentNodes_v2(node, others, NULL, count);
}
