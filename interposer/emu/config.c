/* GPUMAX_EMU: JSON, or the path of a file with JSON. All faults of it are told at once. */
#include "emu/config.h"

#include "common/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

struct reading {
	char *said;
	size_t room;
	int faults;
};

__attribute__((format(printf, 2, 3))) static void fault(struct reading *r, const char *format, ...)
{
	size_t length = strlen(r->said);
	va_list arguments;

	if (r->faults++ > 0 && length + 3 < r->room) {
		memcpy(r->said + length, "; ", 3);
		length += 2;
	}
	va_start(arguments, format);
	if (length + 1 < r->room)
		vsnprintf(r->said + length, r->room - length, format, arguments);
	va_end(arguments);
}

/* Bytes: a whole number, or one with a unit like "40Gi". */
static bool bytes(const struct json *value, uint64_t *out)
{
	static const char units[] = "KMGT";
	char *end;
	double number;
	const char *unit;

	if (value->kind == JSON_NUMBER) {
		number = value->number;
	} else if (value->kind == JSON_STRING) {
		number = strtod(value->string, &end);
		if (end == value->string)
			return false;
		unit = *end != '\0' ? strchr(units, *end) : NULL;
		if (unit != NULL) {
			bool binary = end[1] == 'i';

			number *= pow(binary ? 1024 : 1000, (double)(unit - units + 1));
			end += binary ? 2 : 1;
		}
		if (*end != '\0')
			return false;
	} else {
		return false;
	}
	if (!(number >= 0 && number < 1e18))
		return false;
	*out = (uint64_t)number;
	return true;
}

static bool number(const struct json *value, double low, double high, double *out)
{
	if (value->kind != JSON_NUMBER || !(value->number >= low && value->number <= high))
		return false;
	*out = value->number;
	return true;
}

static bool text(const struct json *value, char *out, size_t room)
{
	if (value->kind != JSON_STRING || strlen(value->string) == 0 || strlen(value->string) >= room)
		return false;
	memcpy(out, value->string, strlen(value->string) + 1);
	return true;
}

static bool uuid(const struct json *value, unsigned char *out)
{
	const char *at = value->kind == JSON_STRING ? value->string : "";

	if (strncmp(at, "GPU-", 4) != 0 || strlen(at) != 40)
		return false;
	at += 4;
	for (int i = 0; i < 16; i++) {
		unsigned int byte;

		if (*at == '-')
			at++;
		if (strspn(at, "0123456789abcdefABCDEF") < 2 || sscanf(at, "%2x", &byte) != 1)
			return false;
		out[i] = (unsigned char)byte;
		at += 2;
	}
	return true;
}

static bool one_member(struct emu_model *d, const struct json *value, bool *known)
{
	const char *key = value->key;
	double x = 0;
	bool fine = true;

	*known = true;
	if (strcmp(key, "name") == 0) {
		fine = text(value, d->name, sizeof(d->name));
	} else if (strcmp(key, "memory") == 0) {
		fine = bytes(value, &d->memory) && d->memory >= MIB;
	} else if (strcmp(key, "context") == 0) {
		fine = bytes(value, &d->context_bytes);
	} else if (strcmp(key, "granularity") == 0) {
		fine = bytes(value, &d->granularity) && d->granularity >= 4096 &&
		       (d->granularity & (d->granularity - 1)) == 0 && d->granularity <= GIB;
	} else if (strcmp(key, "uuid") == 0) {
		fine = uuid(value, d->uuid);
	} else if (strcmp(key, "cc") == 0) {
		fine = value->kind == JSON_STRING && sscanf(value->string, "%d.%d", &d->major, &d->minor) == 2 &&
		       d->major > 0 && d->major < 100 && d->minor >= 0 && d->minor < 10;
	} else if (strcmp(key, "sms") == 0) {
		fine = number(value, 1, 1024, &x);
		d->sms = (int)x;
	} else if (strcmp(key, "h2d") == 0) {
		fine = number(value, 1e-3, 1e5, &d->h2d);
	} else if (strcmp(key, "d2h") == 0) {
		fine = number(value, 1e-3, 1e5, &d->d2h);
	} else if (strcmp(key, "d2d") == 0) {
		fine = number(value, 1e-3, 1e6, &d->d2d);
	} else if (strcmp(key, "pageable") == 0) {
		fine = number(value, 1e-3, 1, &d->pageable);
	} else if (strcmp(key, "tflops") == 0) {
		fine = number(value, 1e-6, 1e5, &x);
		d->flops = x * 1000;
	} else if (strcmp(key, "latency_us") == 0) {
		fine = number(value, 0, 1e6, &x);
		d->latency_ns = (uint64_t)(x * 1000);
	} else if (strcmp(key, "slice_us") == 0) {
		fine = number(value, 10, 1e6, &x);
		d->slice_ns = (uint64_t)(x * 1000);
	} else {
		*known = false;
	}
	return fine;
}

static const char *wish(const char *key)
{
	static const char *const wishes[][2] = {
	    {"name", "1 to 63 characters"},
	    {"memory", "bytes, at least 1Mi, like \"16Gi\""},
	    {"context", "bytes, like \"256Mi\""},
	    {"granularity", "a power of two from 4096 to 1Gi"},
	    {"uuid", "GPU- and 32 hexadecimal digits in five groups"},
	    {"cc", "a string like \"8.0\""},
	    {"sms", "1 to 1024"},
	    {"pageable", "0.001 to 1"},
	    {"tflops", "above 0"},
	    {"latency_us", "0 to 1000000"},
	    {"slice_us", "10 to 1000000"},
	};

	for (size_t i = 0; i < sizeof(wishes) / sizeof(wishes[0]); i++)
		if (strcmp(wishes[i][0], key) == 0)
			return wishes[i][1];
	return "GB/s, above 0";
}

static void read_device(struct reading *r, struct emu_config *c, const struct json *value, int at)
{
	const struct json *given = json_get(value, "model"), *count = json_get(value, "count");
	struct emu_model device;
	double times = 1;

	memset(&device, 0, sizeof(device));
	if (value->kind != JSON_OBJECT) {
		fault(r, "devices[%d]: found no object; wanted one like {\"model\": \"T4\"}", at);
		return;
	}
	emu_model_named("A100-40GB", &device);
	if (given != NULL && (given->kind != JSON_STRING || !emu_model_named(given->string, &device)))
		fault(r, "devices[%d].model: found %s; wanted T4, V100-16GB, A10, A100-40GB, A100-80GB, L4, L40S, H100-80GB, H200 or B200",
		      at, given->kind == JSON_STRING ? given->string : "no string");
	for (const struct json *each = value->child; each != NULL; each = each->next) {
		bool known;

		if (each == given || each == count)
			continue;
		if (!one_member(&device, each, &known))
			fault(r, "devices[%d].%s: wanted %s", at, each->key, wish(each->key));
		else if (!known)
			fault(r, "devices[%d].%s: no such member", at, each->key);
	}
	if (count != NULL && (!number(count, 0, EMU_DEVICES, &times) || times != floor(times)))
		fault(r, "devices[%d].count: wanted 0 to %d", at, EMU_DEVICES);
	for (int i = 0; i < (int)times; i++) {
		if (c->devices == EMU_DEVICES) {
			fault(r, "devices: found more than %d; wanted at most that many", EMU_DEVICES);
			return;
		}
		c->device[c->devices++] = device;
	}
}

static void read_fault(struct reading *r, struct emu_config *c, const struct json *value, int at)
{
	struct emu_fault one = {.nth = 1, .times = 1, .result = 2};
	const struct json *call = json_get(value, "call");
	const char *nearest;
	double x;

	if (c->faults == EMU_FAULTS) {
		fault(r, "faults: wanted at most %d", EMU_FAULTS);
		return;
	}
	if (call == NULL || !text(call, one.call, sizeof(one.call)))
		fault(r, "faults[%d].call: wanted the name of a function", at);
	else if (!emu_call_known(one.call, &nearest))
		fault(r, "faults[%d].call: found %s; wanted a function that the emulated driver has%s%s", at, one.call,
		      nearest != NULL ? ", like " : "", nearest != NULL ? nearest : "");
	for (const struct json *each = value->child; each != NULL && value->kind == JSON_OBJECT; each = each->next) {
		if (each == call)
			continue;
		if (strcmp(each->key, "nth") == 0 && number(each, 1, 1e12, &x))
			one.nth = (uint64_t)x;
		else if (strcmp(each->key, "times") == 0 && number(each, 1, 1e12, &x))
			one.times = (uint64_t)x;
		else if (strcmp(each->key, "result") == 0 && number(each, 1, 999, &x))
			one.result = (int)x;
		else if (strcmp(each->key, "result") == 0 && each->kind == JSON_STRING && emu_result_by_name(each->string) > 0)
			one.result = emu_result_by_name(each->string);
		else if (strcmp(each->key, "sticky") == 0 && (each->kind == JSON_TRUE || each->kind == JSON_FALSE))
			one.sticky = each->kind == JSON_TRUE;
		else if (strcmp(each->key, "kill") == 0 && (each->kind == JSON_TRUE || each->kind == JSON_FALSE))
			one.kill = each->kind == JSON_TRUE;
		else
			fault(r, "faults[%d].%s: wanted call, nth (1 or more), times (1 or more), result (a CUresult), sticky or kill (true, false)", at, each->key);
	}
	c->fault[c->faults++] = one;
}

static bool version(const struct json *value, int *out)
{
	int major, minor, length = 0;

	if (value->kind != JSON_STRING || sscanf(value->string, "%2d.%1d%n", &major, &minor, &length) != 2 || value->string[length])
		return false;
	*out = major * 1000 + minor * 10;
	return major >= 11 && minor >= 0;
}

static void read_list(struct reading *r, struct emu_config *c, const struct json *value,
		      void (*one)(struct reading *, struct emu_config *, const struct json *, int))
{
	int at = 0;

	if (value->kind != JSON_ARRAY) {
		fault(r, "%s: wanted a list", value->key);
		return;
	}
	for (const struct json *each = value->child; each != NULL; each = each->next)
		one(r, c, each, at++);
}

static void read_top(struct reading *r, struct emu_config *c, const struct json *value)
{
	if (strcmp(value->key, "devices") == 0) {
		read_list(r, c, value, read_device);
	} else if (strcmp(value->key, "faults") == 0) {
		read_list(r, c, value, read_fault);
	} else if (strcmp(value->key, "driver") == 0) {
		if (!version(value, &c->driver_version))
			fault(r, "driver: wanted a version like \"13.0\"");
	} else if (strcmp(value->key, "clock") == 0) {
		c->virtual_clock = value->kind == JSON_STRING && strcmp(value->string, "virtual") == 0;
		if (!c->virtual_clock && (value->kind != JSON_STRING || strcmp(value->string, "real") != 0))
			fault(r, "clock: wanted \"real\" or \"virtual\"");
	} else if (strcmp(value->key, "shared") == 0) {
		if (!text(value, c->shared, sizeof(c->shared)) || c->shared[0] != '/')
			fault(r, "shared: wanted the absolute path of a file that all processes share");
	} else if (strcmp(value->key, "log") == 0) {
		c->log = value->kind == JSON_TRUE;
		if (!c->log && value->kind != JSON_FALSE)
			fault(r, "log: wanted true or false");
	} else {
		fault(r, "%s: no such member; wanted devices, driver, clock, shared, faults or log", value->key);
	}
}

static char *whole_file(const char *path)
{
	FILE *file = fopen(path, "re");
	size_t room = 1 << 20, got;
	char *content;

	if (file == NULL)
		return NULL;
	content = malloc(room);
	got = content != NULL ? fread(content, 1, room - 1, file) : 0;
	fclose(file);
	if (content != NULL)
		content[got] = '\0';
	return content;
}

static uint64_t hashed(const char *content)
{
	uint64_t hash = 14695981039346656037u;

	for (; *content != '\0'; content++)
		hash = (hash ^ (unsigned char)*content) * 1099511628211u;
	return hash;
}

/* The same configuration gives the same devices to every process. */
static void finish(struct emu_config *c, const char *content)
{
	uint64_t hash = hashed(content);

	c->shared_by_default = c->shared[0] == '\0';
	if (c->shared_by_default)
		snprintf(c->shared, sizeof(c->shared), "/dev/shm/gpumax-emu-%u-%016" PRIx64, (unsigned)getuid(), hash);
	for (int i = 0; i < c->devices; i++) {
		static const unsigned char none[16];
		unsigned char *id = c->device[i].uuid;

		if (memcmp(id, none, sizeof(none)) != 0)
			continue;
		for (int k = 0; k < 8; k++)
			id[k] = (unsigned char)(hash >> (8 * k));
		memcpy(id + 8, "gpumax", 6);
		id[15] = (unsigned char)i;
	}
}

int emu_config_read(const char *source, struct emu_config *config, char *said, size_t said_size)
{
	struct reading r = {.said = said, .room = said_size};
	char *content = NULL, wrong[160];
	struct json *value;

	memset(config, 0, sizeof(*config));
	config->driver_version = 13000;
	said[0] = '\0';
	if (source == NULL || *source == '\0') {
		fault(&r, "not set; wanted JSON like {\"devices\": [{\"model\": \"A100-40GB\"}]}, or the path of a file with it");
		return -1;
	}
	while (*source == ' ' || *source == '\n' || *source == '\t')
		source++;
	if (*source != '{') {
		content = whole_file(source);
		if (content == NULL) {
			fault(&r, "the file %s can't be read", source);
			return -1;
		}
	}
	value = json_parse(content != NULL ? content : source, wrong, sizeof(wrong));
	if (value == NULL)
		fault(&r, "%s", wrong);
	else if (value->kind != JSON_OBJECT)
		fault(&r, "found no object; wanted one like {\"devices\": [{\"model\": \"A100-40GB\"}]}");
	else
		for (const struct json *each = value->child; each != NULL; each = each->next)
			read_top(&r, config, each);
	json_free(value);
	finish(config, content != NULL ? content : source);
	free(content);
	return r.faults > 0 ? -1 : 0;
}
