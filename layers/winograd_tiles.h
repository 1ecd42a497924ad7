// Winograd's transforms of one row or column of a tile. In two dimensions they apply to one, and then to the other.
//
// A row of a filter and the wanted results are polynomials, which are multiplied at points and at infinity. For 4
// results these are 0, ±3/4 and ±3/2, with which rounding errors are a third of those with the customary 0, ±1 and ±2.
// For 6 results they are 0, ±1/2, ±1 and ±2; none of a hundred other sets had smaller errors.
#pragma once

namespace caffe {
namespace {

#define CAFFE_INLINE inline __attribute__((always_inline))

template <int results>
struct WinogradTile;

template <>
struct WinogradTile<4> {
  static constexpr int kResults = 4, kInputs = 6;

  template <typename V>
  static CAFFE_INLINE void input(const V* d, V* r) {
    r[0] = d[0] * (81.f / 64) - d[2] * (45.f / 16) + d[4];
    r[5] = d[1] * (81.f / 64) - d[3] * (45.f / 16) + d[5];
    V even = d[4] - d[2] * 2.25f, odd = (d[3] - d[1] * 2.25f) * 0.75f;
    r[1] = even + odd;
    r[2] = even - odd;
    even = d[4] - d[2] * 0.5625f;
    odd = (d[3] - d[1] * 0.5625f) * 1.5f;
    r[3] = even + odd;
    r[4] = even - odd;
  }
  template <typename V>
  static CAFFE_INLINE void weight(const V* g, V* r) {
    r[0] = g[0] * (64. / 81);
    V even = (g[0] + g[2] * 0.5625) * (-128. / 243), odd = g[1] * (-32. / 81);
    r[1] = even + odd;
    r[2] = even - odd;
    even = (g[0] + g[2] * 2.25) * (32. / 243);
    odd = g[1] * (16. / 81);
    r[3] = even + odd;
    r[4] = even - odd;
    r[5] = g[2];
  }
  template <typename V>
  static CAFFE_INLINE void product(const V* m, V* r) {
    const V sum1 = m[1] + m[2], sum2 = m[3] + m[4];
    const V difference1 = m[1] - m[2], difference2 = m[3] - m[4];
    r[0] = m[0] + sum1 + sum2;
    r[1] = difference1 * 0.75f + difference2 * 1.5f;
    r[2] = sum1 * 0.5625f + sum2 * 2.25f;
    r[3] = m[5] + difference1 * (27.f / 64) + difference2 * 3.375f;
  }
};

template <>
struct WinogradTile<6> {
  static constexpr int kResults = 6, kInputs = 8;

  template <typename V>
  static CAFFE_INLINE void input(const V* d, V* r) {
    r[0] = d[0] - d[6] + (d[4] - d[2]) * 5.25f;
    r[7] = d[7] - d[1] + (d[3] - d[5]) * 5.25f;
    V even = d[2] + d[6] - d[4] * 4.25f, odd = d[1] + d[5] - d[3] * 4.25f;
    r[1] = even + odd;
    r[2] = even - odd;
    even = d[6] + d[2] * 0.25f - d[4] * 1.25f;
    odd = d[1] * 0.5f - d[3] * 2.5f + d[5] * 2.f;
    r[3] = even + odd;
    r[4] = even - odd;
    even = d[6] + d[2] * 4.f - d[4] * 5.f;
    odd = d[1] * 2.f - d[3] * 2.5f + d[5] * 0.5f;
    r[5] = even + odd;
    r[6] = even - odd;
  }
  template <typename V>
  static CAFFE_INLINE void weight(const V* g, V* r) {
    r[0] = g[0];
    V even = (g[0] + g[2]) * (-2. / 9), odd = g[1] * (2. / 9);
    r[1] = even - odd;
    r[2] = even + odd;
    even = g[0] / 90. + g[2] * (2. / 45);
    odd = g[1] / 45.;
    r[3] = even + odd;
    r[4] = even - odd;
    even = g[0] * (32. / 45) + g[2] * (8. / 45);
    odd = g[1] * (16. / 45);
    r[5] = even + odd;
    r[6] = even - odd;
    r[7] = g[2];
  }
  template <typename V>
  static CAFFE_INLINE void product(const V* m, V* r) {
    const V sum1 = m[1] + m[2], sum2 = m[3] + m[4], sum3 = m[5] + m[6];
    const V difference1 = m[1] - m[2], difference2 = m[3] - m[4], difference3 = m[5] - m[6];
    r[0] = m[0] + sum1 + (sum2 + sum3);
    r[1] = difference1 + (difference2 * 2.f + difference3 * 0.5f);
    r[2] = sum1 + (sum2 * 4.f + sum3 * 0.25f);
    r[3] = difference1 + (difference2 * 8.f + difference3 * 0.125f);
    r[4] = sum1 + (sum2 * 16.f + sum3 * 0.0625f);
    r[5] = m[7] + difference1 + (difference2 * 32.f + difference3 * 0.03125f);
  }
};

}  // namespace
}  // namespace caffe
