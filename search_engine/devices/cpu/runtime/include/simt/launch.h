// How the runner calls a kernel whose parameter types only the compiler knows, and how it
// tells them: one letter and the size for each, "P" for a pointer to const, "p" otherwise.
#pragma once

namespace simt {

template <class T> struct Kind { static constexpr char letter = 's'; };  // a struct by value
template <class T> struct Kind<T*> { static constexpr char letter = 'p'; };
template <class T> struct Kind<const T*> { static constexpr char letter = 'P'; };
template <class T> struct Kind<const T> : Kind<T> {};
#define SIMT_KIND(T, c) template <> struct Kind<T> { static constexpr char letter = c; };
SIMT_KIND(bool, 'b')
SIMT_KIND(char, 'i') SIMT_KIND(signed char, 'i') SIMT_KIND(unsigned char, 'u')
SIMT_KIND(short, 'i') SIMT_KIND(unsigned short, 'u')
SIMT_KIND(int, 'i') SIMT_KIND(unsigned, 'u')
SIMT_KIND(long, 'i') SIMT_KIND(unsigned long, 'u')
SIMT_KIND(long long, 'i') SIMT_KIND(unsigned long long, 'u')
SIMT_KIND(float, 'f') SIMT_KIND(double, 'f')
#undef SIMT_KIND

template <unsigned long N>
struct Signature {
  char text[4 * N + 2];  // "p008i004", closed by "."
};

template <class... A>
constexpr Signature<sizeof...(A)> signature(void (*)(A...)) {
  Signature<sizeof...(A)> result{};
  const char letters[] = {Kind<A>::letter..., '.'};
  const unsigned long sizes[] = {sizeof(A)..., 0};
  unsigned long i = 0;
  for (; i < sizeof...(A); ++i) {
    result.text[4 * i] = letters[i];
    result.text[4 * i + 1] = (char)('0' + sizes[i] / 100 % 10);
    result.text[4 * i + 2] = (char)('0' + sizes[i] / 10 % 10);
    result.text[4 * i + 3] = (char)('0' + sizes[i] % 10);
  }
  result.text[4 * i] = '.';
  return result;
}

template <int... I> struct Indices {};
template <int N, int... I> struct Count : Count<N - 1, N - 1, I...> {};
template <int... I> struct Count<0, I...> { typedef Indices<I...> type; };

template <class T> struct Value { typedef T type; };
template <class T> struct Value<const T> { typedef T type; };

template <int... I, class... A>
SIMT_UNHOOKED void call(void (*kernel)(A...), void** values, Indices<I...>) {
  kernel(*(typename Value<A>::type*)values[I]...);
}

template <class... A>
inline void call(void (*kernel)(A...), void** values) {
  call(kernel, values, typename Count<sizeof...(A)>::type());
}

}  // namespace simt

#define SIMT_ENTRY(name)                                                            \
  extern "C" __attribute__((visibility("default"), used)) constexpr auto            \
      simt_signature_##name = simt::signature(&name);                               \
  extern "C" __attribute__((visibility("default"))) void simt_launch_##name(void** values) { \
    simt::call(&name, values);                                                      \
  }
