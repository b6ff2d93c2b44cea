package wire

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"
)

// A frame is a piece of text of a command, or its end.
type frame struct {
	Text    string `json:"text,omitempty"`
	Done    bool   `json:"done,omitempty"`
	Outcome `json:"outcome,omitzero"`
}

type session struct {
	Session Session `json:"session"`
}

type listing struct {
	Session Session `json:"session"`
	List    string  `json:"list"`
}

type names struct {
	Names []string `json:"names"`
}

// Handler serves e. Whoever can connect to the socket may call it: the socket's permissions are the first door, the log-in
// is the second.
func Handler(e Executor) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/banner", func(w http.ResponseWriter, r *http.Request) { reply(w, e.Banner(r.Context())) })
	mux.HandleFunc("POST /v1/login", func(w http.ResponseWriter, r *http.Request) {
		var c Credentials
		if !read(w, r, &c) {
			return
		}
		s, err := e.Login(r.Context(), c)
		if err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		reply(w, session{s})
	})
	mux.HandleFunc("POST /v1/names", func(w http.ResponseWriter, r *http.Request) {
		var l listing
		if read(w, r, &l) {
			all := e.Names(r.Context(), l.Session, l.List)
			reply(w, names{all[:min(len(all), MaxNames)]})
		}
	})
	mux.HandleFunc("POST /v1/do", func(w http.ResponseWriter, r *http.Request) {
		var q Request
		if !read(w, r, &q) {
			return
		}
		if len(q.Answers) > MaxAnswers {
			http.Error(w, "too many answers", http.StatusBadRequest)
			return
		}
		out := &frames{w: w, enc: json.NewEncoder(w)}
		o := e.Do(r.Context(), q, out)
		out.Flush()
		out.send(frame{Done: true, Outcome: o})
	})
	return mux
}

// read decodes the one JSON object of a request.
func read(w http.ResponseWriter, r *http.Request, into any) bool {
	err := decode(http.MaxBytesReader(w, r.Body, maxRequest), into)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return false
	}
	// The server's deadline was for the request. Left in place it would end, as if the console had gone, whatever takes long.
	if err := http.NewResponseController(w).SetReadDeadline(time.Time{}); err != nil {
		http.Error(w, "this connection has no deadlines", http.StatusInternalServerError)
		return false
	}
	return true
}

// decode reads exactly one JSON value with known fields only.
func decode(r io.Reader, into any) error {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return errors.New("read message: not the JSON that was expected, or too long")
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("read message: something follows it")
	}
	return nil
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v) // the console is gone if this fails: nobody is left to tell
}

// frames turns text into frames. It is used by one goroutine.
type frames struct {
	w    http.ResponseWriter
	enc  *json.Encoder
	text []byte
	err  error
}

// Write collects text and sends what is complete. It fails when the console is gone.
func (f *frames) Write(p []byte) (int, error) {
	f.text = append(f.text, p...)
	for len(f.text) >= chunk && f.err == nil {
		n := runeEnd(f.text[:chunk])
		f.send(frame{Text: string(f.text[:n])})
		f.text = f.text[n:]
	}
	return len(p), f.err
}

// Flush sends what was written: a command that waits for somebody says so first.
func (f *frames) Flush() {
	if len(f.text) > 0 {
		f.send(frame{Text: string(f.text)})
		f.text = nil
	}
}

func (f *frames) send(x frame) {
	if f.err == nil {
		f.err = f.enc.Encode(x)
	}
	if f.err == nil {
		f.err = http.NewResponseController(f.w).Flush()
	}
}
