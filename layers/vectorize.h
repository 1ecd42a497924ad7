// One source, several instruction sets: functions marked CAFFE_VECTORIZE are also compiled for AVX2 and AVX-512 if the
// loader can choose between versions, so that a plain build uses what the processor has. Results do not depend on the choice:
// no version fuses or reorders arithmetic.
#pragma once

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define CAFFE_VECTORIZE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CAFFE_VECTORIZE
#endif
