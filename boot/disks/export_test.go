package disks

// Unpack is unpack.
var Unpack = unpack
