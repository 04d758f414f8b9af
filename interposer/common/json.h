/* A reader of JSON for configurations: small, strict, and without limits but memory and depth. */
#ifndef GPUMAX_JSON_H
#define GPUMAX_JSON_H

#include <stddef.h>

enum json_kind { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json {
	enum json_kind kind;
	double number;
	char *string;	    /* of a string */
	char *key;	    /* in an object */
	struct json *child; /* the first of an array or object */
	struct json *next;
};

/* NULL where the text is no JSON; `error` then says where and why. */
struct json *json_parse(const char *text, char *error, size_t error_size);
void json_free(struct json *value);
const struct json *json_get(const struct json *object, const char *key);

#endif
