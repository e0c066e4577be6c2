// SPDX-License-Identifier: MIT
// init, the only program of a small Linux guest. init and its child compute with SSE registers for
// ever, and check every result. For each right result, the child prints '<' on the serial line, and
// init prints '>'. Both print '!' for a wrong result.
#include <emmintrin.h>
#include <string.h>
#include <unistd.h>

// Under emulation, this number of steps takes a few milliseconds, so a save of the guest often
// interrupts a chain of steps.
#define STEPS 20000

// Computes a chain of steps in registers. Each step depends on all earlier steps, so a register
// that loses its value changes the result.
static void run_chain(int seed, __m128i result[4])
{
	__m128i a = _mm_set1_epi32(seed), b = _mm_set_epi32(1, 2, 3, 4),
		c = _mm_set1_epi32(0x9e3779b9), d = b;
	__m128d x = _mm_set_pd(1.5 + seed, 2.5), y = _mm_set_pd(0.75, 0.625);

	for (int step = 0; step < STEPS; step++) {
		a = _mm_add_epi32(a, _mm_xor_si128(_mm_slli_epi32(b, 7), c));
		b = _mm_xor_si128(b, _mm_srli_epi32(_mm_add_epi32(a, d), 3));
		c = _mm_add_epi32(c, _mm_mul_epu32(a, b));
		d = _mm_shuffle_epi32(_mm_xor_si128(d, c), _MM_SHUFFLE(2, 1, 0, 3));
		x = _mm_add_pd(_mm_mul_pd(x, y), _mm_set1_pd(0.5));
		y = _mm_sub_pd(_mm_set1_pd(1.25), _mm_mul_pd(y, _mm_div_pd(_mm_set1_pd(0.5), x)));
	}
	result[0] = _mm_xor_si128(a, d);
	result[1] = _mm_xor_si128(b, c);
	result[2] = _mm_castpd_si128(x);
	result[3] = _mm_castpd_si128(y);
}

static _Noreturn void work(int seed, const char *right)
{
	__m128i first[4], again[4];

	run_chain(seed, first);
	for (;;) {
		run_chain(seed, again);
		if (write(STDOUT_FILENO, memcmp(first, again, sizeof(first)) ? "!" : right, 1) != 1)
			_exit(1);
	}
}

int main(void)
{
	// If this process (init) ends, the guest's kernel panics, and the test sees the panic.
	switch (fork()) {
	case -1:
		return 1;
	case 0:
		work(1, "<");
	default:
		work(2, ">");
	}
}
