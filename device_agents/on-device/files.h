/* Files that a host has written here. */
#ifndef FILES_H
#define FILES_H

#include "json.h"

bool write_file(const Json *request); /* from pieces of files and the bytes that follow, all of which are read */

#endif
