package hsm

// #include <stdlib.h>
import "C"

import (
	"fmt"
	"unsafe"

	p11 "github.com/miekg/pkcs11"
)

// load loads and initializes the module.
func load(c Config) (*p11.Ctx, error) {
	lib := p11.New(c.Module)
	if lib == nil {
		return nil, fmt.Errorf("load module %s: not a PKCS#11 library", c.Module)
	}
	var options []p11.InitializeOption
	if c.Parameters != "" {
		s := C.CString(c.Parameters)
		defer C.free(unsafe.Pointer(s))
		options = append(options, p11.InitializeWithReserved(unsafe.Pointer(s)))
	}
	if err := lib.Initialize(options...); err != nil {
		lib.Destroy()
		return nil, fmt.Errorf("initialize module: %w", err)
	}
	return lib, nil
}
