/* Attention on a CPU, compiled as it stands: the text is the same for every pattern. */

/* The version of the interface between this file and those who call it. */
int maskdsl_native_version(void) { return 1; }
