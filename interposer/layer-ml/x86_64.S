#include "../layer/x86_64.S"
