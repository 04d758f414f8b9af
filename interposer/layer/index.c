/* What is where: a treap of ranges by address, which finds the block around any address in logarithmic time. */
#include <stdlib.h>
#include <string.h>

#include "layer.h"

struct index addresses = {.lock = PTHREAD_MUTEX_INITIALIZER};
struct index handles = {.lock = PTHREAD_MUTEX_INITIALIZER};
struct index arrays = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Which of two blocks is above the other is left to chance, so the tree stays flat whatever order they come in. */
static uint32_t draw(struct index *index)
{
	uint32_t state = index->chance ? index->chance : 2463534242u;

	state ^= state << 13;
	state ^= state >> 17;
	state ^= state << 5;
	return index->chance = state;
}

static void split(struct block *tree, uint64_t base, struct block **below, struct block **rest)
{
	while (tree) {
		if (tree->base < base) {
			*below = tree;
			below = &tree->right;
			tree = tree->right;
		} else {
			*rest = tree;
			rest = &tree->left;
			tree = tree->left;
		}
	}
	*below = *rest = NULL;
}

static struct block *join(struct block *left, struct block *right)
{
	struct block *root = NULL, **place = &root;

	while (left && right) {
		if (left->weight > right->weight) {
			*place = left;
			place = &left->right;
			left = left->right;
		} else {
			*place = right;
			place = &right->left;
			right = right->left;
		}
	}
	*place = left ? left : right;
	return root;
}

/* The first block that begins at an address or behind it. */
static struct block *first_from(struct block *tree, uint64_t address)
{
	struct block *best = NULL;

	while (tree) {
		if (tree->base >= address) {
			best = tree;
			tree = tree->left;
		} else {
			tree = tree->right;
		}
	}
	return best;
}

static struct block *around(struct block *tree, uint64_t address)
{
	struct block *best = NULL;

	while (tree) {
		if (tree->base <= address) {
			best = tree;
			tree = tree->right;
		} else {
			tree = tree->left;
		}
	}
	return best && address - best->base < best->size ? best : NULL;
}

static void cut(struct index *index, struct block *block)
{
	struct block **place = &index->root;

	while (*place != block)
		place = (*place)->base < block->base ? &(*place)->right : &(*place)->left;
	*place = join(block->left, block->right);
}

static bool give(struct index *index, struct block *block, struct block *taken)
{
	if (block) {
		cut(index, block);
		*taken = *block;
		free(block);
	}
	return block != NULL;
}

bool index_add(struct index *index, const struct block *block)
{
	struct block *fresh = malloc(sizeof *fresh), **place = &index->root;
	bool added = false;

	if (!fresh)
		return false;
	*fresh = *block;
	pthread_mutex_lock(&index->lock);
	if (!around(index->root, block->base)) {
		fresh->weight = draw(index);
		while (*place && (*place)->weight >= fresh->weight)
			place = (*place)->base < fresh->base ? &(*place)->right : &(*place)->left;
		split(*place, fresh->base, &fresh->left, &fresh->right);
		*place = fresh;
		added = true;
	}
	pthread_mutex_unlock(&index->lock);
	if (!added)
		free(fresh);
	return added;
}

bool index_take(struct index *index, uint64_t base, struct block *taken)
{
	struct block *block;
	bool found;

	pthread_mutex_lock(&index->lock);
	block = around(index->root, base);
	found = give(index, block && block->base == base ? block : NULL, taken);
	pthread_mutex_unlock(&index->lock);
	return found;
}

bool index_take_within(struct index *index, uint64_t base, uint64_t size, enum kind kind, struct block *taken)
{
	struct block *block;
	bool found;

	pthread_mutex_lock(&index->lock);
	block = first_from(index->root, base);
	while (block && block->kind != kind)
		block = block->base == UINT64_MAX ? NULL : first_from(index->root, block->base + 1);
	found = give(index, block && block->base - base < size ? block : NULL, taken);
	pthread_mutex_unlock(&index->lock);
	return found;
}

static struct block *of_context(struct block *tree, CUcontext context)
{
	struct block *found;

	if (!tree || tree->context == context)
		return tree;
	found = of_context(tree->left, context);
	return found ? found : of_context(tree->right, context);
}

bool index_take_of(struct index *index, CUcontext context, struct block *taken)
{
	bool found;

	pthread_mutex_lock(&index->lock);
	found = give(index, of_context(index->root, context), taken);
	pthread_mutex_unlock(&index->lock);
	return found;
}

bool index_find(struct index *index, uint64_t address, struct block *found)
{
	struct block *block;

	pthread_mutex_lock(&index->lock);
	block = around(index->root, address);
	if (block)
		*found = *block;
	pthread_mutex_unlock(&index->lock);
	return block != NULL;
}

bool index_next(struct index *index, uint64_t address, struct block *found)
{
	struct block *block;

	pthread_mutex_lock(&index->lock);
	block = first_from(index->root, address);
	if (block)
		*found = *block;
	pthread_mutex_unlock(&index->lock);
	return block != NULL;
}

/* Nothing that the parent allocated is the child's; the lock may have been held by a thread that it hasn't. */
void indexes_after_fork(void)
{
	struct index *all[] = {&addresses, &handles, &arrays};

	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		pthread_mutex_init(&all[i]->lock, NULL);
		all[i]->root = NULL;
	}
}
