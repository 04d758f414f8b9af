#include "common/json.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH = 32 };

struct reader {
	const char *start;
	const char *at;
	const char *wrong;
	int depth;
};

static struct json *read_value(struct reader *r);

static void *refuse(struct reader *r, const char *why)
{
	if (r->wrong == NULL)
		r->wrong = why;
	return NULL;
}

static void blank(struct reader *r)
{
	while (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r')
		r->at++;
}

static bool took(struct reader *r, char wanted)
{
	blank(r);
	if (*r->at != wanted)
		return false;
	r->at++;
	return true;
}

static int hex(struct reader *r)
{
	int value = 0;

	for (int i = 0; i < 4; i++) {
		int c = (unsigned char)*r->at;

		if (!isxdigit(c))
			return -1;
		value = value * 16 + (isdigit(c) ? c - '0' : tolower(c) - 'a' + 10);
		r->at++;
	}
	return value;
}

/* Characters beyond 16 bits come as they are, in UTF-8; escaped halves of them are refused. */
static char *put_utf8(char *out, int code)
{
	if (code < 0x80) {
		*out++ = (char)code;
	} else if (code < 0x800) {
		*out++ = (char)(0xC0 | (code >> 6));
		*out++ = (char)(0x80 | (code & 0x3F));
	} else {
		*out++ = (char)(0xE0 | (code >> 12));
		*out++ = (char)(0x80 | ((code >> 6) & 0x3F));
		*out++ = (char)(0x80 | (code & 0x3F));
	}
	return out;
}

static char *escaped(struct reader *r, char *out)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *found = *r->at != '\0' ? strchr(from, *r->at) : NULL;
	int code;

	if (found != NULL) {
		r->at++;
		*out++ = to[found - from];
		return out;
	}
	if (*r->at != 'u')
		return refuse(r, "an unknown escape in a string");
	r->at++;
	code = hex(r);
	if (code <= 0 || (code >= 0xD800 && code <= 0xDFFF))
		return refuse(r, "an escape of a character that isn't one");
	return put_utf8(out, code);
}

static char *read_string(struct reader *r)
{
	size_t room = strlen(r->at) + 1;
	char *text = malloc(room), *out = text;

	if (text == NULL)
		return refuse(r, "out of memory");
	while (*r->at != '"') {
		if ((unsigned char)*r->at < 0x20) {
			free(text);
			return refuse(r, "a string that doesn't end");
		}
		if (*r->at != '\\') {
			*out++ = *r->at++;
			continue;
		}
		r->at++;
		out = escaped(r, out);
		if (out == NULL) {
			free(text);
			return NULL;
		}
	}
	r->at++;
	*out = '\0';
	return text;
}

static struct json *made(struct reader *r, enum json_kind kind)
{
	struct json *value = calloc(1, sizeof(*value));

	if (value == NULL)
		return refuse(r, "out of memory");
	value->kind = kind;
	return value;
}

static struct json *read_item(struct reader *r, enum json_kind kind)
{
	char *key = NULL;
	struct json *item;

	if (kind == JSON_OBJECT) {
		if (!took(r, '"'))
			return refuse(r, "no name of a member");
		key = read_string(r);
		if (key == NULL)
			return NULL;
		if (!took(r, ':')) {
			free(key);
			return refuse(r, "no colon after a member's name");
		}
	}
	item = read_value(r);
	if (item == NULL)
		free(key);
	else
		item->key = key;
	return item;
}

static struct json *read_many(struct reader *r, enum json_kind kind)
{
	char end = kind == JSON_ARRAY ? ']' : '}';
	struct json *value = made(r, kind), **last;

	if (value == NULL || took(r, end))
		return value;
	last = &value->child;
	do {
		*last = read_item(r, kind);
		if (*last == NULL) {
			json_free(value);
			return NULL;
		}
		last = &(*last)->next;
	} while (took(r, ','));
	if (!took(r, end)) {
		json_free(value);
		return refuse(r, "no comma and no end of a list");
	}
	return value;
}

static struct json *read_number(struct reader *r)
{
	char *end;
	struct json *value = made(r, JSON_NUMBER);

	if (value == NULL)
		return NULL;
	value->number = strtod(r->at, &end);
	if (end == r->at || !(isdigit((unsigned char)*r->at) || *r->at == '-') || value->number - value->number != 0) {
		free(value);
		return refuse(r, "something that is no value");
	}
	r->at = end;
	return value;
}

static bool word(struct reader *r, const char *wanted)
{
	size_t length = strlen(wanted);

	if (strncmp(r->at, wanted, length) != 0)
		return false;
	r->at += length;
	return true;
}

static struct json *read_plain(struct reader *r)
{
	struct json *value;

	if (took(r, '"')) {
		value = made(r, JSON_STRING);
		if (value == NULL)
			return NULL;
		value->string = read_string(r);
		if (value->string != NULL)
			return value;
		free(value);
		return NULL;
	}
	if (word(r, "true"))
		return made(r, JSON_TRUE);
	if (word(r, "false"))
		return made(r, JSON_FALSE);
	if (word(r, "null"))
		return made(r, JSON_NULL);
	return read_number(r);
}

static struct json *read_value(struct reader *r)
{
	struct json *value;

	if (++r->depth > DEPTH)
		return refuse(r, "lists in lists in lists");
	blank(r);
	if (took(r, '{'))
		value = read_many(r, JSON_OBJECT);
	else if (took(r, '['))
		value = read_many(r, JSON_ARRAY);
	else
		value = read_plain(r);
	r->depth--;
	return value;
}

struct json *json_parse(const char *text, char *error, size_t error_size)
{
	struct reader r = {.start = text, .at = text};
	struct json *value = read_value(&r);

	blank(&r);
	if (value != NULL && *r.at != '\0') {
		json_free(value);
		value = refuse(&r, "something after the end");
	}
	if (value == NULL)
		snprintf(error, error_size, "no JSON: %s at character %td", r.wrong, r.at - r.start + 1);
	return value;
}

void json_free(struct json *value)
{
	while (value != NULL) {
		struct json *next = value->next;

		json_free(value->child);
		free(value->string);
		free(value->key);
		free(value);
		value = next;
	}
}

const struct json *json_get(const struct json *object, const char *key)
{
	if (object == NULL || object->kind != JSON_OBJECT)
		return NULL;
	for (const struct json *each = object->child; each != NULL; each = each->next)
		if (strcmp(each->key, key) == 0)
			return each;
	return NULL;
}
