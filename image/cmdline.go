package image

// CommandLine is the kernel's command line. It is measured into PCR 11.
//
//	quiet                      the serial line belongs to the console, not to the kernel
//	panic=1 oops=panic         a broken kernel reboots instead of going on
//	module.sig_enforce=1       only modules that Debian signed
//	lockdown=confidentiality   not even root reads kernel memory, hibernates or kexecs
//	random.trust_cpu=on        the TPM is mixed in by user space
//	init_on_alloc, init_on_free  freed memory holds no secrets
//	slab_nomerge, vsyscall     cheap hardening
const CommandLine = "console=ttyS0,115200 quiet panic=1 oops=panic" +
	" module.sig_enforce=1 lockdown=confidentiality" +
	" random.trust_cpu=on init_on_alloc=1 init_on_free=1 slab_nomerge vsyscall=none"
