/* SPDX-License-Identifier: MIT */
/* Runs a fuzz target over the files of the folders it is given: once found, always checked, with any
 * compiler. */
#include <dirent.h>

#include "fuzz.h"

static uint8_t *read_whole(const char *path, size_t *n)
{
	FILE *f = fopen(path, "rb");
	if (!f) {
		perror(path);
		exit(1);
	}
	fseek(f, 0, SEEK_END);
	long size = ftell(f);
	rewind(f);
	/* Exactly as large as the file, so that the sanitizers see a read beyond it. */
	uint8_t *data = malloc(size > 0 ? (size_t)size : 1);
	*n = data ? fread(data, 1, (size_t)size, f) : 0;
	fclose(f);
	if (!data || *n != (size_t)size) {
		fprintf(stderr, "%s: not read whole\n", path);
		exit(1);
	}
	return data;
}

static unsigned replay(const char *dir)
{
	DIR *all = opendir(dir);
	unsigned files = 0;
	if (!all) {
		perror(dir);
		exit(1);
	}
	for (const struct dirent *e; (e = readdir(all));) {
		char path[4096];
		size_t n;
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
		uint8_t *data = read_whole(path, &n);
		LLVMFuzzerTestOneInput(data, n);
		free(data);
		files++;
	}
	closedir(all);
	return files;
}

int main(int argc, char **argv)
{
	unsigned files = 0;
	for (int i = 1; i < argc; i++)
		files += replay(argv[i]);
	printf("%u inputs\n", files);
	return files ? 0 : 1;
}
