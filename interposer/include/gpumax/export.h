/* What a library of gpumax shows to others; all else is hidden. */
#ifndef GPUMAX_EXPORT_H
#define GPUMAX_EXPORT_H

#define GPUMAX_EXPORT __attribute__((visibility("default")))

#endif
