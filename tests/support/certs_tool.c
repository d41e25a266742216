/* SPDX-License-Identifier: MIT */
/* certs-tool DIR: the folders of certs.h, for tests that are scripts. */
#include "certs.h"

#include <stdio.h>

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: certs-tool DIR\n");
		return 2;
	}
	certs_make(argv[1]);
	return 0;
}
