/* SPDX-License-Identifier: MIT */
/* The state file of a partly received image: its head, and what it says of the guest (the checksums are made right first). */
#include "fuzz.h"

#include "image/journal/recv_state.h"
#include "image/journal/recv_state_layout.h"

static void head(const uint8_t *data, size_t n)
{
	uint8_t page[GW__RECV_STATE_PAGE] = {0}, again[GW__RECV_STATE_PAGE];
	struct gw__recv_state_head h;
	struct gw__error error = {0};
	memcpy(page, data, n < sizeof page ? n : sizeof page);
	gw__recv_state_sum(page, 48, page + 48);
	int r = gw__recv_state_head_decode(page, 1 << 30, &h, &error);
	fuzz_result_is_sound(r, &error);
	if (r)
		return;
	HOLDS(gw__recv_state_file_bytes(h.maps_bytes, h.meta_bytes) <= 1 << 30);
	gw__recv_state_head_encode(&h, again);
	HOLDS(gw__recv_state_head_decode(again, 1 << 30, &h, &error) == 0);
}

static void meta(const uint8_t *data, size_t n)
{
	struct gw__recv_state_saved saved, back;
	struct gw__error error = {0};
	uint64_t maps_bytes, maps_again;
	int r = gw__recv_state_meta_decode(data, n, &saved, &maps_bytes, &error);
	fuzz_result_is_sound(r, &error);
	if (!r) {
		HOLDS(maps_bytes && maps_bytes % GW__RECV_STATE_PAGE == 0);
		size_t room = gw__recv_state_meta_bytes(&saved);
		uint8_t *again = calloc(1, room);
		HOLDS(again && gw__recv_state_meta_encode(&saved, again, room));
		HOLDS(gw__recv_state_meta_decode(again, room, &back, &maps_again, &error) == 0);
		HOLDS(maps_again == maps_bytes && back.blocks.n == saved.blocks.n && back.cursor == saved.cursor);
		HOLDS(back.package.n == saved.package.n && back.user_data.n == saved.user_data.n && back.early.n == saved.early.n);
		gw__recv_state_saved_fini(&back);
		free(again);
	}
	gw__recv_state_saved_fini(&saved);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (!n)
		return 0;
	(data[0] & 1 ? meta : head)(data + 1, n - 1);
	return 0;
}
