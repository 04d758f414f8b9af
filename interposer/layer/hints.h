/* What the program says of its memory: what it won't write to any more, what may be thrown away. */
#ifndef GPUMAX_LAYER_HINTS_H
#define GPUMAX_LAYER_HINTS_H

#include "backing.h"

void hint_new(struct backing *backing); /* by what its thread has begun */

#endif
