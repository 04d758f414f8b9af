#include "../layer/aarch64.S"
