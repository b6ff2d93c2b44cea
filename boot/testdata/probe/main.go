// Command probe tries to get out of its compartment and says what it could do.
package main

func main() {}
