/* Faults: what the system tells a program by a signal although it is an error as others are.
 *
 * A file that is read by mapping and becomes shorter meanwhile, or whose disk fails, is a SIGBUS:
 * one line on stderr and exit code 66; what was half written has temporary names. A file beyond the
 * limit of its length (ulimit -f) is a SIGXFSZ: it is ignored, and the write fails. */
#ifndef GPT_LAUNCH_FAULTS_H
#define GPT_LAUNCH_FAULTS_H

#ifdef __cplusplus
extern "C" {
#endif

/* First in main. */
void faults_install(void);

#ifdef __cplusplus
}
#endif
#endif
