package main

import "io"

// chunk is how much is read at once: four chunks of the format. A goroutine that reads
// ahead was tried; in a pipeline, where both ends are busy, it only cost time.
const chunk = 256 << 10

// pump copies until the end. Its memory is one chunk.
func pump(dst io.Writer, src io.Reader) error {
	buf := make([]byte, chunk)
	defer clear(buf)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
