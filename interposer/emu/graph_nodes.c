/* Graphs that are looked at, copied, put into each other, changed after they were instantiated, and that have memory of their own. */
#include "emu/graph.h"

#include <stdlib.h>
#include <string.h>

static uint64_t graph_bytes[EMU_DEVICES], graph_bytes_high[EMU_DEVICES]; /* by ordinal, with emu.lock held */

struct emu_graph_memory *emu_graph_memory_keep(struct emu_graph_memory *memory)
{
	if (memory != NULL)
		__atomic_add_fetch(&memory->references, 1, __ATOMIC_RELAXED);
	return memory;
}

void emu_graph_memory_drop(struct emu_graph_memory *memory)
{
	struct emu_range *range;
	bool ours;

	if (memory == NULL || __atomic_sub_fetch(&memory->references, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	pthread_rwlock_rdlock(&emu.space);
	range = emu_range_at(memory->base);
	ours = range != NULL && range->kind == EMU_GRAPHED && range->base == memory->base; /* it goes with its context, too */
	pthread_mutex_lock(&emu.lock);
	if (ours)
		graph_bytes[range->context->ordinal] -= range->size;
	pthread_mutex_unlock(&emu.lock);
	pthread_rwlock_unlock(&emu.space);
	if (ours)
		emu_free_range(memory->base);
	free(memory);
}

void emu_graph_delete(struct emu_graph *graph)
{
	for (size_t i = 0; i < graph->count; i++) {
		if (graph->nodes[i]->child != NULL)
			emu_graph_delete(graph->nodes[i]->child);
		emu_graph_memory_drop(graph->nodes[i]->memory);
		emu_delete(EMU_NODE, graph->nodes[i]);
	}
	free(graph->nodes);
	free(graph->edges);
	emu_delete(EMU_GRAPH, graph);
}

struct emu_graph *emu_graph_clone(const struct emu_graph *graph)
{
	struct emu_graph *clone = emu_new(EMU_GRAPH, sizeof(*clone));
	bool fine = clone != NULL;

	if (fine)
		clone->origin = graph;
	for (size_t i = 0; fine && i < graph->count; i++) {
		const struct emu_node *node = graph->nodes[i];
		struct emu_node *copy = emu_node_add(clone, node->type, &node->op);

		fine = copy != NULL;
		if (!fine)
			break;
		copy->wanted = node->wanted;
		copy->memory = emu_graph_memory_keep(node->memory);
		if (node->child != NULL) {
			copy->child = emu_graph_clone(node->child);
			fine = copy->child != NULL;
			if (fine)
				copy->child->of_node = true;
		}
	}
	for (size_t i = 0; fine && i < graph->edges_count; i++)
		fine = emu_edge_add(clone, graph->edges[i].from, graph->edges[i].to);
	if (!fine && clone != NULL)
		emu_graph_delete(clone);
	return fine ? clone : NULL;
}

GPUMAX_EXPORT CUresult cuGraphClone(CUgraph *clone, CUgraph original)
{
	const struct emu_graph *graph = (const struct emu_graph *)original;

	CALL(cuGraphClone);
	REFUSE_IF(clone == NULL || !emu_is(EMU_GRAPH, graph), CUDA_ERROR_INVALID_VALUE);
	for (size_t i = 0; i < graph->count; i++)
		REFUSE_IF(graph->nodes[i]->memory != NULL, CUDA_ERROR_NOT_SUPPORTED); /* as the driver has it */
	*clone = (CUgraph)emu_graph_clone(graph);
	return *clone != NULL ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

GPUMAX_EXPORT CUresult cuGraphNodeFindInClone(CUgraphNode *found, CUgraphNode original, CUgraph handle)
{
	const struct emu_graph *clone = (const struct emu_graph *)handle;
	const struct emu_node *node = (const struct emu_node *)original;

	CALL(cuGraphNodeFindInClone);
	REFUSE_IF(found == NULL || !emu_is(EMU_NODE, node) || !emu_is(EMU_GRAPH, clone), CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(clone->origin != node->graph || node->index >= clone->count, CUDA_ERROR_INVALID_VALUE);
	*found = (CUgraphNode)clone->nodes[node->index];
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuGraphAddChildGraphNode(CUgraphNode *handle, CUgraph graph, const CUgraphNode *after, size_t count, CUgraph child)
{
	struct emu_op op = {.engine = EMU_NO_ENGINE};
	struct emu_graph *copy;
	CUresult result;

	CALL(cuGraphAddChildGraphNode);
	REFUSE_IF(!emu_is(EMU_GRAPH, child), CUDA_ERROR_INVALID_VALUE);
	for (size_t i = 0; i < ((struct emu_graph *)child)->count; i++)
		REFUSE_IF(((struct emu_graph *)child)->nodes[i]->memory != NULL, CUDA_ERROR_NOT_SUPPORTED);
	copy = emu_graph_clone((struct emu_graph *)child);
	REFUSE_IF(copy == NULL, CUDA_ERROR_OUT_OF_MEMORY);
	result = emu_node_behind(handle, graph, after, count, CU_GRAPH_NODE_TYPE_GRAPH, &op);
	if (result != CUDA_SUCCESS) {
		emu_graph_delete(copy);
		return result;
	}
	copy->of_node = true;
	((struct emu_node *)*handle)->child = copy;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuGraphChildGraphNodeGetGraph(CUgraphNode handle, CUgraph *graph)
{
	const struct emu_node *node = (const struct emu_node *)handle;

	CALL(cuGraphChildGraphNodeGetGraph);
	REFUSE_IF(!emu_is(EMU_NODE, node) || node->child == NULL || graph == NULL, CUDA_ERROR_INVALID_VALUE);
	*graph = (CUgraph)node->child;
	return CUDA_SUCCESS;
}

/* The driver takes memory when the graph runs and keeps it; here it is there at once, so a graph that doesn't fit is never made. */
GPUMAX_EXPORT CUresult cuGraphAddMemAllocNode(CUgraphNode *handle, CUgraph graph, const CUgraphNode *after, size_t count,
					      CUDA_MEM_ALLOC_NODE_PARAMS_v1 *p)
{
	struct emu_op op = {.engine = EMU_NO_ENGINE};
	struct emu_graph_memory *memory;
	uint64_t *bytes, *high;
	CUresult result;

	CALL_IN_CONTEXT(cuGraphAddMemAllocNode, context);
	REFUSE_IF(p == NULL || p->bytesize == 0 || p->poolProps.allocType != CU_MEM_ALLOCATION_TYPE_PINNED, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(p->poolProps.location.type != CU_MEM_LOCATION_TYPE_DEVICE || p->poolProps.handleTypes != CU_MEM_HANDLE_TYPE_NONE,
		  CUDA_ERROR_NOT_SUPPORTED);
	REFUSE_IF(p->poolProps.location.id != context->ordinal, CUDA_ERROR_NOT_SUPPORTED);
	memory = calloc(1, sizeof(*memory));
	REFUSE_IF(memory == NULL, CUDA_ERROR_OUT_OF_MEMORY);
	memory->references = 1;
	result = emu_allocate(context, EMU_GRAPHED, p->bytesize, 0, &memory->base);
	if (result != CUDA_SUCCESS) {
		free(memory);
		return result;
	}
	bytes = &graph_bytes[context->ordinal];
	high = &graph_bytes_high[context->ordinal];
	pthread_mutex_lock(&emu.lock);
	*bytes += emu_round(p->bytesize, 512);
	*high = *bytes > *high ? *bytes : *high;
	pthread_mutex_unlock(&emu.lock);
	result = emu_node_behind(handle, graph, after, count, CU_GRAPH_NODE_TYPE_MEM_ALLOC, &op);
	if (result != CUDA_SUCCESS) {
		emu_graph_memory_drop(memory);
		return result;
	}
	p->dptr = memory->base;
	((struct emu_node *)*handle)->memory = memory;
	((struct emu_node *)*handle)->wanted = *p;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuGraphMemAllocNodeGetParams(CUgraphNode handle, CUDA_MEM_ALLOC_NODE_PARAMS_v1 *p)
{
	const struct emu_node *node = (const struct emu_node *)handle;

	CALL(cuGraphMemAllocNodeGetParams);
	REFUSE_IF(!emu_is(EMU_NODE, node) || node->type != CU_GRAPH_NODE_TYPE_MEM_ALLOC || p == NULL, CUDA_ERROR_INVALID_VALUE);
	*p = node->wanted;
	return CUDA_SUCCESS;
}

/* It may be used no more behind this node; the driver could give it to another one, which here has its own. */
GPUMAX_EXPORT CUresult cuGraphAddMemFreeNode(CUgraphNode *handle, CUgraph graph_handle, const CUgraphNode *after, size_t count,
					     CUdeviceptr pointer)
{
	const struct emu_graph *graph = (const struct emu_graph *)graph_handle;
	struct emu_op op = {.engine = EMU_NO_ENGINE};
	bool allocated = false, freed = false;
	CUresult result;

	CALL(cuGraphAddMemFreeNode);
	REFUSE_IF(!emu_is(EMU_GRAPH, graph), CUDA_ERROR_INVALID_VALUE);
	for (size_t i = 0; i < graph->count; i++) {
		allocated |= graph->nodes[i]->memory != NULL && graph->nodes[i]->memory->base == pointer;
		freed |= graph->nodes[i]->type == CU_GRAPH_NODE_TYPE_MEM_FREE && graph->nodes[i]->wanted.dptr == pointer;
	}
	REFUSE_IF(!allocated || freed, CUDA_ERROR_INVALID_VALUE);
	result = emu_node_behind(handle, graph_handle, after, count, CU_GRAPH_NODE_TYPE_MEM_FREE, &op);
	if (result == CUDA_SUCCESS)
		((struct emu_node *)*handle)->wanted.dptr = pointer;
	return result;
}

/* Captured: behind what was captured before. */
CUresult emu_capture_allocation(const struct emu_stream *stream, size_t bytes, CUdeviceptr *pointer)
{
	CUDA_MEM_ALLOC_NODE_PARAMS_v1 wish = {.bytesize = bytes};
	const struct emu_graph *graph = stream->capture;
	CUgraphNode node, last = graph->count > 0 ? (CUgraphNode)graph->nodes[graph->count - 1] : NULL;
	CUresult result;

	REFUSE_IF(stream->capture_broken, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
	wish.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
	wish.poolProps.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
	wish.poolProps.location.id = stream->context->ordinal;
	result = cuGraphAddMemAllocNode(&node, (CUgraph)stream->capture, &last, last != NULL, &wish);
	if (result == CUDA_SUCCESS)
		*pointer = wish.dptr;
	return result;
}

CUresult emu_capture_freeing(const struct emu_stream *stream, CUdeviceptr pointer)
{
	const struct emu_graph *graph = stream->capture;
	CUgraphNode node, last = graph->count > 0 ? (CUgraphNode)graph->nodes[graph->count - 1] : NULL;

	REFUSE_IF(stream->capture_broken, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
	return cuGraphAddMemFreeNode(&node, (CUgraph)stream->capture, &last, last != NULL, pointer);
}

GPUMAX_EXPORT CUresult cuGraphMemFreeNodeGetParams(CUgraphNode handle, CUdeviceptr *pointer)
{
	const struct emu_node *node = (const struct emu_node *)handle;

	CALL(cuGraphMemFreeNodeGetParams);
	REFUSE_IF(!emu_is(EMU_NODE, node) || node->type != CU_GRAPH_NODE_TYPE_MEM_FREE || pointer == NULL, CUDA_ERROR_INVALID_VALUE);
	*pointer = node->wanted.dptr;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuDeviceGraphMemTrim(CUdevice device)
{
	CALL(cuDeviceGraphMemTrim);
	return emu_ordinal(device) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

GPUMAX_EXPORT CUresult cuDeviceGetGraphMemAttribute(CUdevice device, CUgraphMem_attribute attribute, void *value)
{
	bool high = attribute == CU_GRAPH_MEM_ATTR_USED_MEM_HIGH || attribute == CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH;

	CALL(cuDeviceGetGraphMemAttribute);
	REFUSE_IF(!emu_ordinal(device), CUDA_ERROR_INVALID_DEVICE);
	REFUSE_IF(value == NULL || (unsigned)attribute > CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH, CUDA_ERROR_INVALID_VALUE);
	pthread_mutex_lock(&emu.lock);
	*(uint64_t *)value = high ? graph_bytes_high[device] : graph_bytes[device];
	pthread_mutex_unlock(&emu.lock);
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuDeviceSetGraphMemAttribute(CUdevice device, CUgraphMem_attribute attribute, void *value)
{
	bool high = attribute == CU_GRAPH_MEM_ATTR_USED_MEM_HIGH || attribute == CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH;

	CALL(cuDeviceSetGraphMemAttribute);
	REFUSE_IF(!emu_ordinal(device), CUDA_ERROR_INVALID_DEVICE);
	REFUSE_IF(value == NULL || !high || *(uint64_t *)value != 0, CUDA_ERROR_INVALID_VALUE);
	pthread_mutex_lock(&emu.lock);
	graph_bytes_high[device] = graph_bytes[device];
	pthread_mutex_unlock(&emu.lock);
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuGraphExecUpdate_v2(CUgraphExec handle, CUgraph graph, CUgraphExecUpdateResultInfo *info)
{
	struct emu_exec *exec = (struct emu_exec *)handle, newer = {0};

	CALL(cuGraphExecUpdate_v2);
	REFUSE_IF(!emu_is(EMU_EXEC, exec) || !emu_is(EMU_GRAPH, graph) || info == NULL, CUDA_ERROR_INVALID_VALUE);
	*info = (CUgraphExecUpdateResultInfo){.result = CU_GRAPH_EXEC_UPDATE_SUCCESS};
	if (!emu_exec_fill(&newer, (struct emu_graph *)graph) || newer.count != exec->count)
		info->result = CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
	else if (newer.memory_count + exec->memory_count > 0)
		info->result = CU_GRAPH_EXEC_UPDATE_ERROR_NOT_SUPPORTED;
	else if (memcmp(newer.types, exec->types, newer.count * sizeof(*newer.types)) != 0)
		info->result = CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED;
	if (info->result != CU_GRAPH_EXEC_UPDATE_SUCCESS) {
		emu_exec_empty(&newer);
		return CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
	}
	emu_exec_empty(exec);
	*exec = newer;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuGraphExecUpdate(CUgraphExec exec, CUgraph graph, CUgraphNode *wrong, CUgraphExecUpdateResult *why)
{
	CUgraphExecUpdateResultInfo info = {0};
	CUresult result = cuGraphExecUpdate_v2(exec, graph, &info);

	if (wrong != NULL)
		*wrong = info.errorNode;
	if (why != NULL)
		*why = info.result;
	return result;
}
