/* The function that a native payload consists of. Source: vm_main.h of AVF's libvm_payload. */
#ifndef AVF_VM_MAIN_H
#define AVF_VM_MAIN_H

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Implemented by the payload. Its value is the exit code that the payload's owner hears; only the lowest eight bits count.
 * The VM ends when it returns.
 */
#ifdef __cplusplus
typedef int AVmPayload_main_t();
AVmPayload_main_t AVmPayload_main;
#else
typedef int AVmPayload_main_t(void);
extern int AVmPayload_main(void);
#endif

#ifdef __cplusplus
}
#endif

#endif
