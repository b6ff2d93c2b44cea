package receipt

import (
	"bytes"
	"encoding/json"
	"errors"
)

// canonical decodes data into v and refuses it unless encoding v again gives the same bytes: unknown, repeated and
// miscased fields, white space and alternative escapes all fail that test.
func canonical(data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return err
	}
	again, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, data) {
		return errors.New("not in canonical form")
	}
	return nil
}
