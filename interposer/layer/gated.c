/*
 * The functions that submit work, each behind the gate; and the beginning and end of captures. Their arguments are all
 * of a register's size, so they pass as what they are: words. The lists say how many.
 */
#include <string.h>

#include "layer.h"

typedef uintptr_t w;

/* Of a name only what it says of its function is looked at, when this is compiled. */
#define PER_THREAD(name) (strstr(#name, "_ptsz") != NULL)
#define TO_OWN_GRAPH(name) (strstr(#name, "ToGraph") != NULL)

#define GATE(name, parameters, arguments)                                                                              \
	unsigned name parameters;                                                                                      \
	EXPORT unsigned name parameters                                                                                \
	{                                                                                                              \
		struct gate_seat *seat = gate_enter();                                                                 \
		unsigned result = REAL(name) arguments;                                                                \
                                                                                                                       \
		gate_leave(seat);                                                                                      \
		return result;                                                                                         \
	}

/* A capture doesn't begin while the gate is closed: it would let everybody through. */
#define BEGIN(name, parameters, arguments)                                                                             \
	unsigned name parameters;                                                                                      \
	EXPORT unsigned name parameters                                                                                \
	{                                                                                                              \
		struct gate_seat *seat = gate_enter();                                                                 \
		unsigned result = REAL(name) arguments;                                                                \
                                                                                                                       \
		if (result == CUDA_SUCCESS)                                                                            \
			capture_begun((CUstream)a, PER_THREAD(name), TO_OWN_GRAPH(name));                              \
		gate_leave(seat);                                                                                      \
		return result;                                                                                         \
	}

#define END(name, parameters, arguments)                                                                               \
	unsigned name parameters;                                                                                      \
	EXPORT unsigned name parameters                                                                                \
	{                                                                                                              \
		unsigned result = REAL(name) arguments;                                                                \
                                                                                                                       \
		capture_ended(result, (CUstream)a, PER_THREAD(name));                                                  \
		return result;                                                                                         \
	}

#define P1 (w a)
#define P2 (w a, w b)
#define P3 (w a, w b, w c)
#define P4 (w a, w b, w c, w d)
#define P5 (w a, w b, w c, w d, w e)
#define P6 (w a, w b, w c, w d, w e, w f)
#define P8 (w a, w b, w c, w d, w e, w f, w g, w h)
#define P9 (w a, w b, w c, w d, w e, w f, w g, w h, w i)
#define P10 (w a, w b, w c, w d, w e, w f, w g, w h, w i, w j)
#define P11 (w a, w b, w c, w d, w e, w f, w g, w h, w i, w j, w k)

#define GATE_1(name) GATE(name, P1, (a))
#define GATE_2(name) GATE(name, P2, (a, b))
#define GATE_3(name) GATE(name, P3, (a, b, c))
#define GATE_4(name) GATE(name, P4, (a, b, c, d))
#define GATE_5(name) GATE(name, P5, (a, b, c, d, e))
#define GATE_6(name) GATE(name, P6, (a, b, c, d, e, f))
#define GATE_8(name) GATE(name, P8, (a, b, c, d, e, f, g, h))
#define GATE_9(name) GATE(name, P9, (a, b, c, d, e, f, g, h, i))
#define GATE_10(name) GATE(name, P10, (a, b, c, d, e, f, g, h, i, j))
#define GATE_11(name) GATE(name, P11, (a, b, c, d, e, f, g, h, i, j, k))

#define BEGIN_1(name) BEGIN(name, P1, (a))
#define BEGIN_2(name) BEGIN(name, P2, (a, b))
#define BEGIN_5(name) BEGIN(name, P5, (a, b, c, d, e))
#define BEGIN_6(name) BEGIN(name, P6, (a, b, c, d, e, f))
#define END_1(name) END(name, P1, (a))
#define END_2(name) END(name, P2, (a, b))

#include "gates.inc"
