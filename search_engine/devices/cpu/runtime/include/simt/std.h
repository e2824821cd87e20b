// What kernels take of <cuda/std/...>: traits, limits, pairs, tuples and arrays.
#pragma once

namespace cuda {
namespace std {

// --- <cstdint>, <cstddef> --------------------------------------------------------------------
typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef long long int64_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
typedef __PTRDIFF_TYPE__ intptr_t;
typedef __SIZE_TYPE__ uintptr_t;
typedef __SIZE_TYPE__ size_t;
typedef __PTRDIFF_TYPE__ ptrdiff_t;
typedef decltype(nullptr) nullptr_t;

// --- <type_traits> ---------------------------------------------------------------------------
template <class T, T v> struct integral_constant {
  static constexpr T value = v;
  typedef T value_type;
  typedef integral_constant type;
  constexpr operator T() const { return v; }
  constexpr T operator()() const { return v; }
};
template <bool v> using bool_constant = integral_constant<bool, v>;
typedef bool_constant<true> true_type;
typedef bool_constant<false> false_type;

template <class T> struct type_identity { typedef T type; };
template <bool, class T = void> struct enable_if {};
template <class T> struct enable_if<true, T> { typedef T type; };
template <bool c, class T = void> using enable_if_t = typename enable_if<c, T>::type;
template <bool c, class A, class B> struct conditional { typedef A type; };
template <class A, class B> struct conditional<false, A, B> { typedef B type; };
template <bool c, class A, class B> using conditional_t = typename conditional<c, A, B>::type;
template <class...> using void_t = void;

#define SIMT_TRANSFORM(name, pattern)                             \
  template <class T> struct name { typedef T type; };             \
  template <class T> struct name<pattern> { typedef T type; };    \
  template <class T> using name##_t = typename name<T>::type;
SIMT_TRANSFORM(remove_const, const T)
SIMT_TRANSFORM(remove_volatile, volatile T)
SIMT_TRANSFORM(remove_pointer, T*)
#undef SIMT_TRANSFORM
template <class T> struct remove_reference { typedef T type; };
template <class T> struct remove_reference<T&> { typedef T type; };
template <class T> struct remove_reference<T&&> { typedef T type; };
template <class T> using remove_reference_t = typename remove_reference<T>::type;
template <class T> struct remove_cv : remove_const<remove_volatile_t<T>> {};
template <class T> using remove_cv_t = typename remove_cv<T>::type;
template <class T> struct remove_cvref : remove_cv<remove_reference_t<T>> {};
template <class T> using remove_cvref_t = typename remove_cvref<T>::type;
template <class T> struct decay : remove_cvref<T> {};
template <class T> using decay_t = typename decay<T>::type;
template <class T> struct add_const { typedef const T type; };
template <class T> using add_const_t = const T;
template <class T> using underlying_type_t = __underlying_type(T);

#define SIMT_TRAIT(name, ...)                                                       \
  template <class T> struct name : bool_constant<(__VA_ARGS__)> {};                 \
  template <class T> inline constexpr bool name##_v = name<T>::value;
#define SIMT_TRAIT2(name, ...)                                                      \
  template <class T, class U> struct name : bool_constant<(__VA_ARGS__)> {};        \
  template <class T, class U> inline constexpr bool name##_v = name<T, U>::value;
SIMT_TRAIT2(is_same, __is_same(T, U))
SIMT_TRAIT2(is_base_of, __is_base_of(T, U))
SIMT_TRAIT(is_const, !__is_same(T, remove_const_t<T>))
SIMT_TRAIT(is_pointer, !__is_same(remove_cv_t<T>, remove_pointer_t<remove_cv_t<T>>))
SIMT_TRAIT(is_reference, !__is_same(T, remove_reference_t<T>))
SIMT_TRAIT(is_void, __is_same(remove_cv_t<T>, void))
SIMT_TRAIT(is_class, __is_class(T))
SIMT_TRAIT(is_enum, __is_enum(T))
SIMT_TRAIT(is_empty, __is_empty(T))
SIMT_TRAIT(is_trivially_copyable, __is_trivially_copyable(T))

namespace details {
template <class T, class... U> constexpr bool one_of = (__is_same(T, U) || ...);
}
SIMT_TRAIT(is_integral,
           details::one_of<remove_cv_t<T>, bool, char, signed char, unsigned char, short,
                           unsigned short, int, unsigned, long, unsigned long, long long,
                           unsigned long long>)
SIMT_TRAIT(is_floating_point, details::one_of<remove_cv_t<T>, float, double>)
SIMT_TRAIT(is_arithmetic, is_integral<T>::value || is_floating_point<T>::value)
template <class T, bool = is_arithmetic<T>::value> struct is_signed : bool_constant<(T(-1) < T(0))> {};
template <class T> struct is_signed<T, false> : false_type {};
template <class T> inline constexpr bool is_signed_v = is_signed<T>::value;
SIMT_TRAIT(is_unsigned, is_integral<T>::value && !is_signed<T>::value)
#undef SIMT_TRAIT
#undef SIMT_TRAIT2

template <class T> struct make_unsigned { typedef T type; };
template <class T> struct make_signed { typedef T type; };
#define SIMT_SIGNS(S, U)                                  \
  template <> struct make_unsigned<S> { typedef U type; }; \
  template <> struct make_signed<U> { typedef S type; };
SIMT_SIGNS(signed char, unsigned char)
SIMT_SIGNS(short, unsigned short)
SIMT_SIGNS(int, unsigned)
SIMT_SIGNS(long, unsigned long)
SIMT_SIGNS(long long, unsigned long long)
#undef SIMT_SIGNS
template <class T> using make_unsigned_t = typename make_unsigned<T>::type;
template <class T> using make_signed_t = typename make_signed<T>::type;

template <class T, T... I> struct integer_sequence {
  static constexpr size_t size() { return sizeof...(I); }
};
template <size_t... I> using index_sequence = integer_sequence<size_t, I...>;
namespace details {
template <size_t N, size_t... I> struct count : count<N - 1, N - 1, I...> {};
template <size_t... I> struct count<0, I...> { typedef index_sequence<I...> type; };
}  // namespace details
template <size_t N> using make_index_sequence = typename details::count<N>::type;
template <class... T> using index_sequence_for = make_index_sequence<sizeof...(T)>;

// --- <limits> ------------------------------------------------------------------------------------
template <class T> struct numeric_limits { static constexpr bool is_specialized = false; };
#define SIMT_INTEGER_LIMITS(T)                                                              \
  template <> struct numeric_limits<T> {                                                    \
    static constexpr bool is_specialized = true, is_integer = true, is_exact = true;        \
    static constexpr bool is_signed = (T)-1 < (T)0, has_infinity = false;                   \
    static constexpr int digits = (int)sizeof(T) * 8 - (is_signed ? 1 : 0);                 \
    static constexpr T min() { return is_signed ? (T)(1ull << (sizeof(T) * 8 - 1)) : (T)0; } \
    static constexpr T max() { return (T)~min(); }                                          \
    static constexpr T lowest() { return min(); }                                           \
  };
SIMT_INTEGER_LIMITS(char)
SIMT_INTEGER_LIMITS(signed char)
SIMT_INTEGER_LIMITS(unsigned char)
SIMT_INTEGER_LIMITS(short)
SIMT_INTEGER_LIMITS(unsigned short)
SIMT_INTEGER_LIMITS(int)
SIMT_INTEGER_LIMITS(unsigned)
SIMT_INTEGER_LIMITS(long)
SIMT_INTEGER_LIMITS(unsigned long)
SIMT_INTEGER_LIMITS(long long)
SIMT_INTEGER_LIMITS(unsigned long long)
#undef SIMT_INTEGER_LIMITS
#define SIMT_FLOAT_LIMITS(T, prefix, suffix)                                            \
  template <> struct numeric_limits<T> {                                                \
    static constexpr bool is_specialized = true, is_integer = false, is_exact = false;  \
    static constexpr bool is_signed = true, has_infinity = true;                        \
    static constexpr int digits = prefix##_MANT_DIG__;                                  \
    static constexpr T min() { return prefix##_MIN__; }                                 \
    static constexpr T max() { return prefix##_MAX__; }                                 \
    static constexpr T lowest() { return -prefix##_MAX__; }                             \
    static constexpr T epsilon() { return prefix##_EPSILON__; }                         \
    static constexpr T denorm_min() { return prefix##_DENORM_MIN__; }                   \
    static constexpr T infinity() { return __builtin_huge_val##suffix(); }              \
    static constexpr T quiet_NaN() { return __builtin_nan##suffix(""); }                \
  };
SIMT_FLOAT_LIMITS(float, __FLT, f)
SIMT_FLOAT_LIMITS(double, __DBL, )
#undef SIMT_FLOAT_LIMITS

// --- <utility>, <functional>, <algorithm> ----------------------------------------------------------
template <class T> constexpr remove_reference_t<T>&& move(T&& x) {
  return static_cast<remove_reference_t<T>&&>(x);
}
template <class T> constexpr T&& forward(remove_reference_t<T>& x) { return static_cast<T&&>(x); }
template <class T> constexpr T&& forward(remove_reference_t<T>&& x) { return static_cast<T&&>(x); }
template <class T> T&& declval();
template <class T> constexpr void swap(T& a, T& b) {
  T kept = a;
  a = b;
  b = kept;
}
template <class T> constexpr const T& min(const T& a, const T& b) { return b < a ? b : a; }
template <class T> constexpr const T& max(const T& a, const T& b) { return a < b ? b : a; }
template <class T> constexpr const T& clamp(const T& x, const T& low, const T& high) {
  return x < low ? low : high < x ? high : x;
}
template <class To, class From> constexpr To bit_cast(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "bit_cast between types of two sizes");
  return simt::cast_bits<To>(from);
}
template <class T = void> struct plus { constexpr T operator()(T a, T b) const { return a + b; } };
template <class T = void> struct multiplies { constexpr T operator()(T a, T b) const { return a * b; } };

template <class A, class B> struct pair {
  A first;
  B second;
};
template <class A, class B> pair(A, B) -> pair<A, B>;
template <class A, class B> constexpr pair<A, B> make_pair(A a, B b) { return {a, b}; }

template <class T, size_t N> struct array {
  typedef T value_type;
  T elements[N == 0 ? 1 : N];
  constexpr T& operator[](size_t i) { return elements[i]; }
  constexpr const T& operator[](size_t i) const { return elements[i]; }
  constexpr T* data() { return elements; }
  constexpr const T* data() const { return elements; }
  constexpr T* begin() { return elements; }
  constexpr const T* begin() const { return elements; }
  constexpr T* end() { return elements + N; }
  constexpr const T* end() const { return elements + N; }
  constexpr T& front() { return elements[0]; }
  constexpr T& back() { return elements[N - 1]; }
  static constexpr size_t size() { return N; }
  constexpr void fill(const T& value) {
    for (T& element : elements) element = value;
  }
};

// --- <tuple> ---------------------------------------------------------------------------------------
template <class... T> struct tuple;
template <> struct tuple<> {};
template <class Head, class... Tail> struct tuple<Head, Tail...> {
  Head head;
  tuple<Tail...> tail;
  constexpr tuple() = default;
  constexpr tuple(Head first, Tail... rest) : head(first), tail(rest...) {}
};
template <class... T> tuple(T...) -> tuple<T...>;
template <class... T> constexpr tuple<T...> make_tuple(T... values) { return {values...}; }

template <size_t I, class H, class... T> constexpr auto& get(tuple<H, T...>& of) {
  if constexpr (I == 0) return of.head;
  else return get<I - 1>(of.tail);
}
template <size_t I, class H, class... T> constexpr const auto& get(const tuple<H, T...>& of) {
  if constexpr (I == 0) return of.head;
  else return get<I - 1>(of.tail);
}
template <size_t I, class H, class... T> constexpr auto&& get(tuple<H, T...>&& of) {
  return move(get<I>(of));
}
template <size_t I, class A, class B> constexpr auto& get(pair<A, B>& of) {
  if constexpr (I == 0) return of.first;
  else return of.second;
}
template <size_t I, class A, class B> constexpr const auto& get(const pair<A, B>& of) {
  if constexpr (I == 0) return of.first;
  else return of.second;
}
template <size_t I, class T, size_t N> constexpr T& get(array<T, N>& of) { return of[I]; }

template <class T> struct tuple_size;
template <class... T> struct tuple_size<tuple<T...>> : integral_constant<size_t, sizeof...(T)> {};

// --- <cmath>: CUDA's own functions, which take float and double --------------------------------
using ::abs; using ::ceil; using ::cos; using ::erf; using ::exp; using ::exp2; using ::fabs;
using ::floor; using ::fma; using ::fmax; using ::fmin; using ::fmod; using ::isfinite; using ::isinf;
using ::isnan; using ::log; using ::log2; using ::pow; using ::rint; using ::round; using ::sin;
using ::sqrt; using ::tanh; using ::trunc;

}  // namespace std
}  // namespace cuda

// Structured bindings look in ::std.
namespace std {
template <class T> struct tuple_size;
template <unsigned long I, class T> struct tuple_element;
template <class... T> struct tuple_size<cuda::std::tuple<T...>> {
  static constexpr unsigned long value = sizeof...(T);
};
template <unsigned long I, class H, class... T> struct tuple_element<I, cuda::std::tuple<H, T...>>
    : tuple_element<I - 1, cuda::std::tuple<T...>> {};
template <class H, class... T> struct tuple_element<0, cuda::std::tuple<H, T...>> {
  typedef H type;
};
}  // namespace std
