/* SPDX-License-Identifier: MIT */
/* Connections of a guest; see guest_link.h. */
#include "lib/guest_link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/combine.h"
#include "wire/multifd.h"

int gw__guest_link_uri(gw_job *job, const char *text, struct gw__uri **uri)
{
	*uri = malloc(sizeof **uri);
	return *uri ? gw__uri_parse(text, *uri, &job->run.error) : gw__error_set(&job->run.error, -ENOMEM, "no memory");
}

uint32_t gw__guest_link_method(enum gw_compression compression)
{
	static const uint32_t methods[] =
		{[GW_COMPRESS_NONE] = 0, [GW_COMPRESS_ZLIB] = GW__MULTIFD_ZLIB, [GW_COMPRESS_ZSTD] = GW__MULTIFD_ZSTD};
	return methods[compression];
}

int gw__guest_link_check(gw_job *job, const struct gw__uri *uri, const struct gw_link_opts *link, uint32_t channels,
	enum gw_compression compression)
{
	static const uint64_t methods[] = {
		[GW_COMPRESS_NONE] = 0,
		[GW_COMPRESS_ZLIB] = GW__ABILITY_BIT(GW__ABILITY_ZLIB),
		[GW_COMPRESS_ZSTD] = GW__ABILITY_BIT(GW__ABILITY_ZSTD),
	};
	uint64_t wanted = gw__ability_of_uri(uri) | gw__ability_of_link(link) | methods[compression];
	wanted |= channels ? GW__ABILITY_BIT(GW__ABILITY_MULTIFD) : 0;
	if (channels > GW__MULTIFD_CHANNELS_MAX)
		return gw__error_set(&job->run.error, -EINVAL, "%u multifd channels, at most %d are possible", channels,
			GW__MULTIFD_CHANNELS_MAX);
	if (compression && !channels)
		return gw__error_set(&job->run.error, -EINVAL, "compression needs channels");
	return gw__job_allow(job, GW__OPERATION_SEND, wanted);
}

int gw__guest_link_open(gw_job *job, const struct gw__uri *uri, const gw_guest *guest, const struct gw_link_opts *link, uint32_t channels,
	struct gw__guest_link *l)
{
	l->uri = uri;
	l->dial = (struct gw__outgoing_opts){.io = gw__job_io_opts(job, link), .channels = channels};
	int r = gw__job_tls(job, link, GW__TLS_CLIENT, &l->tls);
	l->dial.tls = l->tls;
	memcpy(l->dial.uuid, guest->guest->uuid, sizeof l->dial.uuid);
	if (!r)
		r = gw__outgoing_connect(&job->run, uri, &l->dial, &l->out);
	if (!r && !l->out.main->two_way)
		r = gw__error_set(&job->run.error, -EOPNOTSUPP,
			"%s: nobody can answer there, and a guest that runs here is given only to who says that it has it",
			l->out.main->name);
	if (!r)
		r = gw__job_filter(job, link, &l->out.main);
	for (uint32_t i = 0; !r && i < l->out.multifd_n; i++)
		r = gw__job_filter(job, link, &l->out.multifd[i]);
	return r;
}

int gw__guest_link_preempt(gw_job *job, const struct gw__guest_link *l, struct gw__chan **chan)
{
	return gw__outgoing_connect_preempt(&job->run, l->uri, &l->dial, chan);
}

void gw__guest_link_close(struct gw__guest_link *l, struct gw_guest_result *ours)
{
	for (uint32_t i = 0; i < l->out.multifd_n; i++)
		ours->moved_bytes += l->out.multifd[i]->out_bytes;
	ours->moved_bytes += l->out.main ? l->out.main->out_bytes : 0;
	ours->channels = l->out.multifd_n;
	gw__outgoing_close(&l->out);
	gw__tls_creds_free(l->tls);
}
