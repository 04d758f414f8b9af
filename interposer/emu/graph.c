/* Graphs: work that is put down first, by hand or by capture, and given to a stream as often as one likes. */
#include "emu/graph.h"

#include <stdlib.h>
#include <string.h>

static bool room(void **list, size_t count, size_t *has, size_t size)
{
	void *larger;

	if (count < *has)
		return true;
	larger = realloc(*list, (*has * 2 + 16) * size);
	if (larger == NULL)
		return false;
	*list = larger;
	*has = *has * 2 + 16;
	return true;
}

struct emu_node *emu_node_add(struct emu_graph *graph, CUgraphNodeType type, const struct emu_op *op)
{
	struct emu_node *node;

	if (!room((void **)&graph->nodes, graph->count, &graph->room, sizeof(struct emu_node *)))
		return NULL;
	node = emu_new(EMU_NODE, sizeof(*node));
	if (node == NULL)
		return NULL;
	node->graph = graph;
	node->type = type;
	node->op = *op;
	node->index = graph->count;
	graph->nodes[graph->count++] = node;
	return node;
}

bool emu_edge_add(struct emu_graph *graph, size_t from, size_t to)
{
	if (!room((void **)&graph->edges, graph->edges_count, &graph->edges_room, sizeof(*graph->edges)))
		return false;
	graph->edges[graph->edges_count++] = (struct emu_edge){from, to};
	return true;
}

GPUMAX_EXPORT CUresult cuGraphCreate(CUgraph *handle, unsigned int flags)
{
	CALL(cuGraphCreate);
	REFUSE_IF(handle == NULL || flags != 0, CUDA_ERROR_INVALID_VALUE);
	*handle = emu_new(EMU_GRAPH, sizeof(struct emu_graph));
	return *handle != NULL ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

GPUMAX_EXPORT CUresult cuGraphDestroy(CUgraph handle)
{
	struct emu_graph *graph = (struct emu_graph *)handle;

	CALL(cuGraphDestroy);
	REFUSE_IF(!emu_is(EMU_GRAPH, graph) || graph->of_node, CUDA_ERROR_INVALID_VALUE);
	emu_graph_delete(graph);
	return CUDA_SUCCESS;
}

CUresult emu_node_behind(CUgraphNode *handle, CUgraph graph_handle, const CUgraphNode *after, size_t count, CUgraphNodeType type,
			 const struct emu_op *op)
{
	struct emu_graph *graph = (struct emu_graph *)graph_handle;
	struct emu_node *node;

	REFUSE_IF(handle == NULL || !emu_is(EMU_GRAPH, graph) || (count > 0 && after == NULL), CUDA_ERROR_INVALID_VALUE);
	for (size_t i = 0; i < count; i++)
		REFUSE_IF(!emu_is(EMU_NODE, after[i]) || ((struct emu_node *)after[i])->graph != graph, CUDA_ERROR_INVALID_VALUE);
	node = emu_node_add(graph, type, op);
	REFUSE_IF(node == NULL, CUDA_ERROR_OUT_OF_MEMORY);
	for (size_t i = 0; i < count; i++)
		REFUSE_IF(!emu_edge_add(graph, ((struct emu_node *)after[i])->index, node->index), CUDA_ERROR_OUT_OF_MEMORY);
	*handle = (CUgraphNode)node;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuGraphAddKernelNode_v2(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count,
					       const CUDA_KERNEL_NODE_PARAMS_v2 *p)
{
	struct emu_op op = {.engine = EMU_NO_ENGINE};
	CUfunction function;
	CUresult result;

	CALL_IN_CONTEXT(cuGraphAddKernelNode_v2, context);
	REFUSE_IF(p == NULL, CUDA_ERROR_INVALID_VALUE);
	{
		unsigned int grid[] = {p->gridDimX, p->gridDimY, p->gridDimZ}, block[] = {p->blockDimX, p->blockDimY, p->blockDimZ};

		function = p->func != NULL ? p->func : (CUfunction)(void *)p->kern;
		result = emu_kernel_op(context, function, grid, block, p->kernelParams, p->extra, &op);
	}
	return result != CUDA_SUCCESS ? result : emu_node_behind(node, graph, after, count, CU_GRAPH_NODE_TYPE_KERNEL, &op);
}

GPUMAX_EXPORT CUresult cuGraphAddKernelNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count,
					    const CUDA_KERNEL_NODE_PARAMS_v1 *p)
{
	CUDA_KERNEL_NODE_PARAMS_v2 newer = {0};

	REFUSE_IF(p == NULL, CUDA_ERROR_INVALID_VALUE);
	memcpy(&newer, p, sizeof(*p));
	return cuGraphAddKernelNode_v2(node, graph, after, count, &newer);
}

GPUMAX_EXPORT CUresult cuGraphAddMemsetNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count,
					    const CUDA_MEMSET_NODE_PARAMS_v1 *p, CUcontext context)
{
	struct emu_op op = {.engine = EMU_NO_ENGINE};
	CUresult result;

	CALL(cuGraphAddMemsetNode);
	REFUSE_IF(p == NULL, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(!emu_is(EMU_CONTEXT, context), CUDA_ERROR_INVALID_CONTEXT);
	result = emu_set_checked((struct emu_context *)context, (struct emu_set){p->dst, p->width, p->height, p->pitch, p->value, p->elementSize}, &op);
	return result != CUDA_SUCCESS ? result : emu_node_behind(node, graph, after, count, CU_GRAPH_NODE_TYPE_MEMSET, &op);
}

GPUMAX_EXPORT CUresult cuGraphAddMemcpyNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count,
					    const CUDA_MEMCPY3D *copy, CUcontext context)
{
	struct emu_op op = {.engine = EMU_NO_ENGINE};
	CUresult result;

	CALL(cuGraphAddMemcpyNode);
	REFUSE_IF(copy == NULL, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(!emu_is(EMU_CONTEXT, context), CUDA_ERROR_INVALID_CONTEXT);
	result = emu_solid_op((struct emu_context *)context, copy, &op);
	return result != CUDA_SUCCESS ? result : emu_node_behind(node, graph, after, count, CU_GRAPH_NODE_TYPE_MEMCPY, &op);
}

GPUMAX_EXPORT CUresult cuGraphAddEmptyNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count)
{
	struct emu_op op = {.engine = EMU_NO_ENGINE};

	CALL(cuGraphAddEmptyNode);
	return emu_node_behind(node, graph, after, count, CU_GRAPH_NODE_TYPE_EMPTY, &op);
}

GPUMAX_EXPORT CUresult cuGraphAddHostNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count,
					  const CUDA_HOST_NODE_PARAMS_v1 *p)
{
	struct emu_op op;

	CALL(cuGraphAddHostNode);
	REFUSE_IF(p == NULL || p->fn == NULL, CUDA_ERROR_INVALID_VALUE);
	op = emu_host_op(p->fn, p->userData);
	return emu_node_behind(node, graph, after, count, CU_GRAPH_NODE_TYPE_HOST, &op);
}

GPUMAX_EXPORT CUresult cuGraphAddDependencies(CUgraph handle, const CUgraphNode *from, const CUgraphNode *to, size_t count)
{
	struct emu_graph *graph = (struct emu_graph *)handle;

	CALL(cuGraphAddDependencies);
	REFUSE_IF(!emu_is(EMU_GRAPH, graph) || (count > 0 && (from == NULL || to == NULL)), CUDA_ERROR_INVALID_VALUE);
	for (size_t i = 0; i < count; i++) {
		REFUSE_IF(!emu_is(EMU_NODE, from[i]) || !emu_is(EMU_NODE, to[i]), CUDA_ERROR_INVALID_VALUE);
		REFUSE_IF(!emu_edge_add(graph, ((struct emu_node *)from[i])->index, ((struct emu_node *)to[i])->index), CUDA_ERROR_OUT_OF_MEMORY);
	}
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuGraphAddDependencies_v2(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to,
						 const CUgraphEdgeData *edges, size_t count)
{
	(void)edges; /* all of one kind */
	return cuGraphAddDependencies(graph, from, to, count);
}

GPUMAX_EXPORT CUresult cuGraphGetNodes(CUgraph handle, CUgraphNode *nodes, size_t *count)
{
	struct emu_graph *graph = (struct emu_graph *)handle;

	CALL(cuGraphGetNodes);
	REFUSE_IF(!emu_is(EMU_GRAPH, graph) || count == NULL, CUDA_ERROR_INVALID_VALUE);
	for (size_t i = 0; nodes != NULL && i < *count; i++)
		nodes[i] = i < graph->count ? (CUgraphNode)graph->nodes[i] : NULL;
	if (nodes == NULL || *count > graph->count)
		*count = graph->count;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuGraphNodeGetType(CUgraphNode node, CUgraphNodeType *type)
{
	CALL(cuGraphNodeGetType);
	REFUSE_IF(!emu_is(EMU_NODE, node) || type == NULL, CUDA_ERROR_INVALID_VALUE);
	*type = ((struct emu_node *)node)->type;
	return CUDA_SUCCESS;
}

void emu_exec_empty(struct emu_exec *exec)
{
	for (size_t i = 0; i < exec->memory_count; i++)
		emu_graph_memory_drop(exec->memory[i]);
	free(exec->ops);
	free(exec->types);
	free(exec->memory);
	*exec = (struct emu_exec){0};
}

static bool enter(struct emu_exec *exec, const struct emu_node *node)
{
	size_t more = exec->room * 2 + 16;
	struct emu_op *ops;
	CUgraphNodeType *types;
	struct emu_graph_memory **memory;

	if (exec->count == exec->room) {
		if ((ops = realloc(exec->ops, more * sizeof(*ops))) != NULL)
			exec->ops = ops;
		if ((types = realloc(exec->types, more * sizeof(*types))) != NULL)
			exec->types = types;
		if ((memory = realloc(exec->memory, more * sizeof(*memory))) != NULL)
			exec->memory = memory;
		if (ops == NULL || types == NULL || memory == NULL)
			return false;
		exec->room = more;
	}
	exec->ops[exec->count] = node->op;
	exec->types[exec->count++] = node->type;
	if (node->memory != NULL)
		exec->memory[exec->memory_count++] = emu_graph_memory_keep(node->memory);
	return true;
}

bool emu_exec_fill(struct emu_exec *exec, const struct emu_graph *graph)
{
	size_t *open = calloc(graph->count + 1, sizeof(*open)), done = 0;
	bool *taken = calloc(graph->count + 1, sizeof(*taken)), moved = true, fine = open != NULL && taken != NULL;

	for (size_t i = 0; fine && i < graph->edges_count; i++)
		open[graph->edges[i].to]++;
	while (fine && moved) {
		moved = false;
		for (size_t i = 0; fine && i < graph->count; i++) {
			const struct emu_node *node = graph->nodes[i];

			if (taken[i] || open[i] > 0)
				continue;
			taken[i] = moved = true;
			done++;
			fine = enter(exec, node) && (node->child == NULL || emu_exec_fill(exec, node->child));
			for (size_t e = 0; e < graph->edges_count; e++)
				open[graph->edges[e].to] -= graph->edges[e].from == i;
		}
	}
	free(open);
	free(taken);
	return fine && done == graph->count;
}

GPUMAX_EXPORT CUresult cuGraphInstantiateWithFlags(CUgraphExec *handle, CUgraph graph_handle, unsigned long long flags)
{
	struct emu_graph *graph = (struct emu_graph *)graph_handle;
	struct emu_exec *exec;

	CALL(cuGraphInstantiateWithFlags);
	REFUSE_IF(handle == NULL || !emu_is(EMU_GRAPH, graph) || flags > 15, CUDA_ERROR_INVALID_VALUE);
	exec = emu_new(EMU_EXEC, sizeof(*exec));
	REFUSE_IF(exec == NULL, CUDA_ERROR_OUT_OF_MEMORY);
	if (!emu_exec_fill(exec, graph)) {
		emu_exec_empty(exec);
		emu_delete(EMU_EXEC, exec);
		return CUDA_ERROR_INVALID_VALUE;
	}
	*handle = (CUgraphExec)exec;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuGraphInstantiate_v2(CUgraphExec *exec, CUgraph graph, CUgraphNode *wrong, char *log, size_t size)
{
	if (wrong != NULL)
		*wrong = NULL;
	if (log != NULL && size > 0)
		*log = '\0';
	return cuGraphInstantiateWithFlags(exec, graph, 0);
}

GPUMAX_EXPORT CUresult cuGraphInstantiateWithParams(CUgraphExec *exec, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS *p)
{
	CUresult result;

	REFUSE_IF(p == NULL, CUDA_ERROR_INVALID_VALUE);
	result = cuGraphInstantiateWithFlags(exec, graph, p->flags);
	p->hErrNode_out = NULL;
	p->result_out = result == CUDA_SUCCESS ? CUDA_GRAPH_INSTANTIATE_SUCCESS : CUDA_GRAPH_INSTANTIATE_ERROR;
	return result;
}

GPUMAX_EXPORT CUresult cuGraphExecDestroy(CUgraphExec handle)
{
	CALL(cuGraphExecDestroy);
	REFUSE_IF(!emu_is(EMU_EXEC, handle), CUDA_ERROR_INVALID_VALUE);
	emu_exec_empty((struct emu_exec *)handle);
	emu_delete(EMU_EXEC, handle);
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuGraphLaunch(CUgraphExec handle, CUstream stream_handle)
{
	struct emu_exec *exec = (struct emu_exec *)handle;
	struct emu_stream *stream;
	CUresult result;

	CALL_IN_CONTEXT(cuGraphLaunch, context);
	REFUSE_IF(!emu_is(EMU_EXEC, exec), CUDA_ERROR_INVALID_VALUE);
	stream = emu_stream(context, stream_handle, &result);
	for (size_t i = 0; stream != NULL && result == CUDA_SUCCESS && i < exec->count; i++)
		result = emu_submit(stream, &exec->ops[i]);
	return result;
}

GPUMAX_EXPORT CUresult cuGraphUpload(CUgraphExec handle, CUstream stream)
{
	CUresult result;

	CALL_IN_CONTEXT(cuGraphUpload, context);
	REFUSE_IF(!emu_is(EMU_EXEC, handle), CUDA_ERROR_INVALID_VALUE);
	emu_stream(context, stream, &result);
	return result;
}
