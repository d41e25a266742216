/* SPDX-License-Identifier: MIT */
/* Arithmetic on lists of buffers. Borrows everything; any thread. */
#include "io/parts.h"

int gw__iov_clip(const struct iovec *iov, int n, uint64_t bytes, struct iovec *to, int max)
{
	int used = 0;
	for (; used < n && used < max && bytes > 0; used++) {
		to[used] = iov[used];
		if (to[used].iov_len > bytes)
			to[used].iov_len = (size_t)bytes;
		bytes -= to[used].iov_len;
	}
	return used;
}

int gw__iov_advance(struct iovec *iov, int n, size_t bytes)
{
	int done = 0;
	for (; done < n && bytes >= iov[done].iov_len; done++)
		bytes -= iov[done].iov_len;
	if (done < n) {
		iov[done].iov_base = (char *)iov[done].iov_base + bytes;
		iov[done].iov_len -= bytes;
	}
	return done;
}

size_t gw__iov_bytes(const struct iovec *iov, int n)
{
	size_t sum = 0;
	for (int i = 0; i < n; i++)
		sum += iov[i].iov_len;
	return sum;
}
