/* A payload that asks for too large a secret, which must abort it. */
#include "vm_payload.h"

int AVmPayload_main(void)
{
	static char secret[64];

	AVmPayload_getVmInstanceSecret("name", 4, secret, sizeof secret);
	return 0;
}
