// Package hidden asks whoever sits at a terminal for a line that the terminal does not show.
package hidden

import (
	"io"
	"os"

	"golang.org/x/term"
)

// Ask writes a prompt to out and reads the line that is typed at in, a terminal. Where the system lets it, the terminal stops to show
// what is typed before it shows the prompt, so that whoever answers at once, a person or a program, is not seen either. It shows again when
// Ask returns; a program that a signal ends meanwhile restores the state that [term.GetState] had found.
func Ask(in *os.File, out io.Writer, prompt string) ([]byte, error) {
	restore, err := quiet(int(in.Fd()))
	if err != nil {
		return nil, err
	}
	defer restore()
	if _, err := io.WriteString(out, prompt); err != nil {
		return nil, err
	}
	line, err := term.ReadPassword(int(in.Fd()))
	_, _ = io.WriteString(out, "\n")
	return line, err
}
