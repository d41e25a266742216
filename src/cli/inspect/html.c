/* SPDX-License-Identifier: MIT */
/* `godwit inspect --html`: the page of page.html with what was found, in a file. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/inspect/html_data.h"
#include "cli/inspect/page.h"
#include "cli/ui/output_file.h"

static int write_page(struct gw__cli_output_file *f, const char *data)
{
	fwrite(gw__page_head, 1, gw__page_head_bytes, f->to);
	fputs(data, f->to);
	fwrite(gw__page_tail, 1, gw__page_tail_bytes, f->to);
	return gw__cli_output_file_commit(f); /* which finds what failed before */
}

int gw__inspect_html(const struct gw__inspect *in)
{
	struct gw__cli_output_file f = {0};
	json_t *data = gw__html_data(in);
	char *text = gw__html_text(data);
	int r = text ? gw__cli_output_file_open(&f, in->html) : -ENOMEM;
	if (!r)
		r = write_page(&f, text);
	gw__cli_output_file_drop(&f);
	free(text);
	json_decref(data);
	return r;
}
