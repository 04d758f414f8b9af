/*
 * Memory that graphs allocate when they run. A node that allocates is charged when it is added, for as long as the graph
 * or what was instantiated of it exists: the driver keeps that memory over launches. Nodes of one graph are added up,
 * though those that follow each other may share memory.
 */
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "layer.h"

struct node {
	struct node *next;
	CUgraph graph; /* NULL: destroyed */
	CUgraphExec executable;
	uint64_t charged;
	uint32_t device;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct node *nodes;

bool graph_charge(CUgraph graph, uint32_t device, uint64_t bytes)
{
	struct node *node;
	uint64_t charged;

	if (!charge(device, bytes, &charged))
		return false;
	node = malloc(sizeof *node);
	if (!node) {
		count(&counters.unaccounted);
		return true;
	}
	pthread_mutex_lock(&lock);
	*node = (struct node){.next = nodes, .graph = graph, .charged = charged, .device = device};
	nodes = node;
	pthread_mutex_unlock(&lock);
	return true;
}

uint64_t graphs_charged(uint32_t device)
{
	uint64_t sum = 0;

	pthread_mutex_lock(&lock);
	for (struct node *node = nodes; node; node = node->next)
		if (node->device == device)
			sum += node->charged;
	pthread_mutex_unlock(&lock);
	return sum;
}

void graph_discharge(CUgraph graph, uint32_t device, uint64_t bytes)
{
	struct node **place = &nodes, *node;

	pthread_mutex_lock(&lock);
	while (*place && ((*place)->graph != graph || (*place)->device != device || (*place)->charged != bytes ||
			  (*place)->executable))
		place = &(*place)->next;
	node = *place;
	if (node) {
		*place = node->next;
		discharge(node->device, node->charged);
		free(node);
	}
	pthread_mutex_unlock(&lock);
}

/* Whoever has neither a graph nor anything instantiated of it left gives its memory back. */
static void sweep(void)
{
	struct node **place = &nodes, *node;

	while ((node = *place)) {
		if (node->graph || node->executable) {
			place = &node->next;
			continue;
		}
		*place = node->next;
		REAL(cuDeviceGraphMemTrim)(device_ordinal(node->device));
		discharge(node->device, node->charged);
		free(node);
	}
}

void graph_gone(CUgraph graph)
{
	pthread_mutex_lock(&lock);
	for (struct node *node = nodes; node; node = node->next)
		if (node->graph == graph)
			node->graph = NULL;
	sweep();
	pthread_mutex_unlock(&lock);
}

EXPORT CUresult cuGraphDestroy(CUgraph graph)
{
	CUresult result = REAL(cuGraphDestroy)(graph);

	if (result == CUDA_SUCCESS && !idle())
		graph_gone(graph);
	return result;
}

EXPORT CUresult cuGraphExecDestroy(CUgraphExec executable)
{
	CUresult result = REAL(cuGraphExecDestroy)(executable);

	if (result != CUDA_SUCCESS || idle())
		return result;
	pthread_mutex_lock(&lock);
	for (struct node *node = nodes; node; node = node->next)
		if (node->executable == executable)
			node->executable = NULL;
	sweep();
	pthread_mutex_unlock(&lock);
	return result;
}

static CUresult instantiated(CUresult result, const CUgraphExec *executable, CUgraph graph)
{
	if (result != CUDA_SUCCESS || idle())
		return result;
	pthread_mutex_lock(&lock);
	for (struct node *node = nodes; node; node = node->next)
		if (node->graph == graph)
			node->executable = *executable;
	pthread_mutex_unlock(&lock);
	return result;
}

EXPORT CUresult cuGraphInstantiate(CUgraphExec *executable, CUgraph graph, CUgraphNode *bad, char *log, size_t size)
{
	return instantiated(REAL(cuGraphInstantiate)(executable, graph, bad, log, size), executable, graph);
}

EXPORT CUresult cuGraphInstantiate_v2(CUgraphExec *executable, CUgraph graph, CUgraphNode *bad, char *log, size_t size)
{
	return instantiated(REAL(cuGraphInstantiate_v2)(executable, graph, bad, log, size), executable, graph);
}

EXPORT CUresult cuGraphInstantiateWithFlags(CUgraphExec *executable, CUgraph graph, unsigned long long flags)
{
	return instantiated(REAL(cuGraphInstantiateWithFlags)(executable, graph, flags), executable, graph);
}

EXPORT CUresult cuGraphInstantiateWithParams(CUgraphExec *executable, CUgraph graph, void *wish)
{
	return instantiated(REAL(cuGraphInstantiateWithParams)(executable, graph, wish), executable, graph);
}

EXPORT CUresult cuGraphInstantiateWithParams_ptsz(CUgraphExec *executable, CUgraph graph, void *wish)
{
	return instantiated(REAL(cuGraphInstantiateWithParams_ptsz)(executable, graph, wish), executable, graph);
}

static bool is_of_device(const CUDA_MEM_ALLOC_NODE_PARAMS_v1 *wish, uint32_t *device)
{
	return wish->poolProps.location.type == CU_MEM_LOCATION_TYPE_DEVICE && device_index(wish->poolProps.location.id, device);
}

/* What a node asks for, charged to its graph. False: beyond the limit. */
static bool charge_node(CUgraph graph, const CUDA_MEM_ALLOC_NODE_PARAMS_v1 *wish)
{
	uint32_t device;

	return !is_of_device(wish, &device) || graph_charge(graph, device, wish->bytesize);
}

static void discharge_node(CUgraph graph, const CUDA_MEM_ALLOC_NODE_PARAMS_v1 *wish)
{
	uint32_t device;

	if (is_of_device(wish, &device))
		graph_discharge(graph, device, wish->bytesize);
}

EXPORT CUresult cuGraphAddMemAllocNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count_after,
				       CUDA_MEM_ALLOC_NODE_PARAMS_v1 *wish)
{
	CUresult result;

	if (idle() || !wish)
		return REAL(cuGraphAddMemAllocNode)(node, graph, after, count_after, wish);
	if (!charge_node(graph, wish))
		return refuse();
	result = REAL(cuGraphAddMemAllocNode)(node, graph, after, count_after, wish);
	if (result != CUDA_SUCCESS)
		discharge_node(graph, wish);
	return result;
}

/* A node of any kind: its kind first, what the kind needs 16 bytes on. */
struct wish {
	CUgraphNodeType type;
	int reserved[3];
	union {
		CUDA_MEM_ALLOC_NODE_PARAMS_v1 memory;
		struct {
			CUgraph graph;
			int ownership;
		} child;
	} of;
};

_Static_assert(offsetof(struct wish, of) == 16, "as the driver has it");

#define OWNERSHIP_MOVES 1

static bool is_of_kind(const struct wish *wish, CUgraphNodeType type)
{
	return !idle() && wish && wish->type == type;
}

static bool room_for(CUgraph graph, const struct wish *wish)
{
	return !is_of_kind(wish, CU_GRAPH_NODE_TYPE_MEM_ALLOC) || charge_node(graph, &wish->of.memory);
}

/* A graph that becomes a node for good: what it has is from now on the other's, and ends with that. */
static void move(CUgraph child, CUgraph graph)
{
	pthread_mutex_lock(&lock);
	for (struct node *node = nodes; node; node = node->next)
		if (node->graph == child)
			node->graph = graph;
	pthread_mutex_unlock(&lock);
}

static CUresult added(CUresult result, CUgraph graph, const struct wish *wish)
{
	if (result == CUDA_SUCCESS) {
		if (is_of_kind(wish, CU_GRAPH_NODE_TYPE_GRAPH) && wish->of.child.ownership == OWNERSHIP_MOVES)
			move(wish->of.child.graph, graph);
	} else if (is_of_kind(wish, CU_GRAPH_NODE_TYPE_MEM_ALLOC)) {
		discharge_node(graph, &wish->of.memory);
	}
	return result;
}

EXPORT CUresult cuGraphAddNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count_after, void *wish)
{
	if (!room_for(graph, wish))
		return refuse();
	return added(REAL(cuGraphAddNode)(node, graph, after, count_after, wish), graph, wish);
}

EXPORT CUresult cuGraphAddNode_v2(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, const void *edges,
				  size_t count_after, void *wish)
{
	if (!room_for(graph, wish))
		return refuse();
	return added(REAL(cuGraphAddNode_v2)(node, graph, after, edges, count_after, wish), graph, wish);
}

EXPORT CUresult cuGraphAddNode_v3(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, const void *edges,
				  size_t count_after, void *wish)
{
	if (!room_for(graph, wish))
		return refuse();
	return added(REAL(cuGraphAddNode_v3)(node, graph, after, edges, count_after, wish), graph, wish);
}

void graphs_after_fork(void)
{
	pthread_mutex_init(&lock, NULL);
	nodes = NULL;
}
