/* Layer norms, GELUs and gates in one pass over memory, for rows of channels: what PyTorch does in several.

   Everything is compiled twice, for float and for bfloat16 (kept as uint16_t, computed as float). One thread. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifndef T

static inline float from_bf16(uint16_t value) {
    uint32_t bits = (uint32_t)value << 16;
    float wide;
    memcpy(&wide, &bits, 4);
    return wide;
}

static inline uint16_t to_bf16(float value) { /* to the nearest, ties to even */
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/* x * sigmoid(2k(x + 0.044715 x^3)) with k = sqrt(2 / pi): GELU's tanh form. */
static inline float gelu(float x) {
    float power = x * (-2.3022082f - 0.10294324f * x * x); /* -2k log2(e) (x + 0.044715 x^3) */
    power = power > 120.0f ? 120.0f : power < -120.0f ? -120.0f : power;
    float whole = rintf(power), part = power - whole;
    float two = 1.0f + part * (0.69314718f + part * (0.24022651f + part * (0.05550411f + part * (0.00961813f
                + part * (0.00133336f + part * 0.00015469f)))));
    uint32_t bits = (uint32_t)((int32_t)whole + 127) << 23;
    float scale;
    memcpy(&scale, &bits, 4);
    return x / (1.0f + two * scale);
}

#define T float
#define LOAD(x) (x)
#define STORE(x) (x)
#define NAME(name) name##_float32
#include __FILE__
#undef T
#undef LOAD
#undef STORE
#undef NAME
#define T uint16_t
#define LOAD(x) from_bf16(x)
#define STORE(x) to_bf16(x)
#define NAME(name) name##_bfloat16
#include __FILE__

#else

/* One row of channels, already in `row`, to mean 0 and variance 1, times scale plus shift where there are any. */
static inline __attribute__((always_inline)) void NAME(norm_row)(
    const float *row, T *out, ptrdiff_t channels, const float *scale, const float *shift, float eps) {
    float sum = 0, squares = 0;
    for (ptrdiff_t c = 0; c < channels; c++) sum += row[c];
    float mean = sum / channels;
    for (ptrdiff_t c = 0; c < channels; c++) squares += (row[c] - mean) * (row[c] - mean);
    float inverse = 1.0f / sqrtf(squares / channels + eps);
    if (scale)
        for (ptrdiff_t c = 0; c < channels; c++) out[c] = STORE((row[c] - mean) * inverse * scale[c] + shift[c]);
    else
        for (ptrdiff_t c = 0; c < channels; c++) out[c] = STORE((row[c] - mean) * inverse);
}

/* A block of (sizes[0], .., sizes[3], channels) values that lie `strides` apart, to rows side by side, normalised. */
static inline __attribute__((always_inline)) void NAME(gather)(
    const T *restrict x, T *restrict out, const ptrdiff_t *sizes, const ptrdiff_t *strides, ptrdiff_t channels, const float *scale,
    const float *shift, float eps) {
    float row[256];
    for (ptrdiff_t i = 0; i < sizes[0]; i++)
        for (ptrdiff_t j = 0; j < sizes[1]; j++)
            for (ptrdiff_t k = 0; k < sizes[2]; k++) {
                const T *from = x + i * strides[0] + j * strides[1] + k * strides[2];
                for (ptrdiff_t l = 0; l < sizes[3]; l++, from += strides[3], out += channels) {
                    for (ptrdiff_t c = 0; c < channels; c++) row[c] = LOAD(from[c]);
                    NAME(norm_row)(row, out, channels, scale, shift, eps);
                }
            }
}

/* GELU of rows that lie `stride` apart, to `activated`, and its layer norm to `out`; either may be NULL. */
static inline __attribute__((always_inline)) void NAME(activate)(
    const T *restrict x, T *restrict activated, T *restrict out, ptrdiff_t rows, ptrdiff_t stride, ptrdiff_t channels, const float *scale,
    const float *shift, float eps) {
    float row[256];
    for (ptrdiff_t r = 0; r < rows; r++, x += stride) {
        for (ptrdiff_t c = 0; c < channels; c++) row[c] = gelu(LOAD(x[c]));
        if (activated)
            for (ptrdiff_t c = 0; c < channels; c++) activated[r * channels + c] = STORE(row[c]);
        if (out) NAME(norm_row)(row, out + r * channels, channels, scale, shift, eps);
    }
}

/* The usual numbers of channels as constants, for which the compiler lays the loops out without a remainder. */
#define EACH(call) \
    switch (channels) { \
        case 32: { const ptrdiff_t channels = 32; call; break; } \
        case 64: { const ptrdiff_t channels = 64; call; break; } \
        case 128: { const ptrdiff_t channels = 128; call; break; } \
        default: call; \
    }

void NAME(norm)(const T *restrict x, T *restrict out, const ptrdiff_t *sizes, const ptrdiff_t *strides, ptrdiff_t channels,
                const float *scale, const float *shift, float eps) {
    EACH(NAME(gather)(x, out, sizes, strides, channels, scale, shift, eps))
}

void NAME(gelu_norm)(const T *restrict x, T *restrict activated, T *restrict out, ptrdiff_t rows, ptrdiff_t stride, ptrdiff_t channels,
                     const float *scale, const float *shift, float eps) {
    EACH(NAME(activate)(x, activated, out, rows, stride, channels, scale, shift, eps))
}

/* mixed = (mixed + bias of the token) * GELU(x), where the rows of x lie `stride` apart. */
void NAME(gate)(T *restrict mixed, const T *restrict x, ptrdiff_t tokens, ptrdiff_t rows, ptrdiff_t stride, ptrdiff_t channels,
                const float *bias) {
    for (ptrdiff_t t = 0; t < tokens; t++)
        for (ptrdiff_t r = 0; r < rows; r++, x += stride, mixed += channels)
            for (ptrdiff_t c = 0; c < channels; c++) mixed[c] = STORE((LOAD(mixed[c]) + bias[t]) * gelu(LOAD(x[c])));
}

/* Rows side by side, plus those of the block `base` if it is not NULL, into the block that `gather` would read them
   from; `base` may be that block itself. */
void NAME(scatter)(const T *y, const T *base, T *x, const ptrdiff_t *sizes, const ptrdiff_t *strides,
                   ptrdiff_t channels) {
    for (ptrdiff_t i = 0; i < sizes[0]; i++)
        for (ptrdiff_t j = 0; j < sizes[1]; j++)
            for (ptrdiff_t k = 0; k < sizes[2]; k++) {
                ptrdiff_t at = i * strides[0] + j * strides[1] + k * strides[2];
                for (ptrdiff_t l = 0; l < sizes[3]; l++, at += strides[3], y += channels) {
                    if (base)
#pragma GCC ivdep
                        for (ptrdiff_t c = 0; c < channels; c++) x[at + c] = STORE(LOAD(base[at + c]) + LOAD(y[c]));
                    else
                        memcpy(x + at, y, channels * sizeof(T));
                }
            }
}

/* The anti-aliased bilinear resize of (height, width, channels) to a part of it, `factor` times as small, by `taps`
   = 2 * factor weights in each direction. Taps that lie beyond the border count for nothing, the others for more.
   `row` has room for width * channels. */
void NAME(shrink)(const T *restrict x, T *restrict out, float *restrict row, ptrdiff_t height, ptrdiff_t width,
                  ptrdiff_t channels, ptrdiff_t factor, const float *weights) {
    ptrdiff_t taps = 2 * factor, before = factor / 2, length = width * channels;
    for (ptrdiff_t i = 0; i < height / factor; i++) {
        float total = 0;
        memset(row, 0, length * sizeof(float));
        for (ptrdiff_t t = 0; t < taps; t++) {
            ptrdiff_t from = i * factor + t - before;
            if (from < 0 || from >= height) continue;
            total += weights[t];
            for (ptrdiff_t c = 0; c < length; c++) row[c] += weights[t] * LOAD(x[from * length + c]);
        }
        for (ptrdiff_t j = 0; j < width / factor; j++, out += channels) {
            float across = 0, sum[256] = {0};
            for (ptrdiff_t t = 0; t < taps; t++) {
                ptrdiff_t from = j * factor + t - before;
                if (from < 0 || from >= width) continue;
                across += weights[t];
                for (ptrdiff_t c = 0; c < channels; c++) sum[c] += weights[t] * row[from * channels + c];
            }
            float scale = 1.0f / (total * across);
            for (ptrdiff_t c = 0; c < channels; c++) out[c] = STORE(sum[c] * scale);
        }
    }
}

#endif
