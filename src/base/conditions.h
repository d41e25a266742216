/* SPDX-License-Identifier: MIT */
/*
 * Positive results: nothing failed, there is no sentence, and the direct caller has something to decide. One name, one meaning, and no two
 * alike, so that one that is passed on by mistake is not taken for another. What decoders answer, GW__SHORT, is in bytes.h. Constants only.
 */
#ifndef GW_BASE_CONDITIONS_H
#define GW_BASE_CONDITIONS_H

enum gw__condition {
	/* 1 is GW__SHORT and GW__SOURCE_NOT_NOTIFIED */
	GW__NOT_MINE = 2,  /* somebody else handles it */
	GW__MISSING,       /* something of the guest is not here, and nothing was done */
	GW__NO_PAGE,       /* this page never came */
	GW__WOULD_BLOCK,   /* it would have to wait for the disk */
	GW__NOTHING_CAME,  /* within the time there was */
	GW__NOBODY,        /* connected within the time there was */
	GW__DROPPED,       /* a connection that may have been the one; here there is a sentence */
	GW__ENOUGH,        /* the time is over, and what came will do */
	GW__CHANNEL_ENDED, /* where it may */
	GW__ENDED,         /* before what was waited for came */
	GW__NOT_YET,       /* ask once more */
	GW__STOPPED,       /* by our caller, where that harms nobody */
	GW__SILENT,        /* a process exists that does not answer, and that may be the one; there is a sentence with it */
};

#endif
