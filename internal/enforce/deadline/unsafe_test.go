package deadline

import "unsafe"

func ptr(a *[4]uint64) unsafe.Pointer { return unsafe.Pointer(a) }
