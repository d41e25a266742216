/* SPDX-License-Identifier: MIT */
/* An image as the source of pages. Its working set is not known here. */
#ifndef GW_ENGINE_PAGESERVER_IMAGE_PAGES_H
#define GW_ENGINE_PAGESERVER_IMAGE_PAGES_H

#include "engine/pageserver/page_source.h"
#include "image/read/image.h"

/* Borrows the image. */
struct gw__page_source gw__image_pages(const struct gw__image *image);

#endif
