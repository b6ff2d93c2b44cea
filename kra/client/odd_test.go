package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/client"
)

// say answers with a status, a media type and a body.
func say(status int, media, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", media)
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

func TestOddAnswers(t *testing.T) {
	a := newAgent(t)
	alice := as(t, a, "alice")
	raw := encrypt(t, "x", to(t, alice, []kra.AccessID{"legal-team"})...)
	o := opener(t, client.AskAlways, alice)
	json := kra.ContentType
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		why    string
	}{
		"a web page":           {say(200, "text/html", "<h1>It works!</h1>"), "not a key release agent's answer"},
		"another path":         {say(404, json, `{"error":"path"}`), "path"},
		"malformed, it says":   {say(400, json, `{"error":"malformed","detail":"byte 7"}`), "malformed: byte 7"},
		"unavailable":          {say(503, json, `{"error":"unavailable"}`), "its console says why"},
		"a redirection":        {http.RedirectHandler("https://elsewhere.example/", http.StatusFound).ServeHTTP, "not a key release agent's answer"},
		"no JSON":              {say(200, json, "{"), "parse response"},
		"no results":           {say(200, json, `{"results":[]}`), "0 results for 1 headers"},
		"too many results":     {say(200, json, `{"results":[{"refused":true},{"refused":true}]}`), "2 results for 1 headers"},
		"a key, no receipt":    {say(200, json, `{"results":[{"key":"AAAAAAAAAAAAAAAAAAAAAA==","access":"legal-team"}]}`), "without a receipt"},
		"an empty receipt":     {say(200, json, `{"results":[{"key":"AAAAAAAAAAAAAAAAAAAAAA==","access":"legal-team","receipt":{}}]}`), "parse"},
		"a refusal with a key": {say(200, json, `{"results":[{"refused":true,"key":"AAAAAAAAAAAAAAAAAAAAAA=="}]}`), "a refusal with contents"},
		"field in other case":  {say(200, json, `{"Results":[{"refused":true}]}`), "parse response"},
		"too much":             {say(200, json, strings.Repeat(" ", kra.MaxResponse+1)), "too long"},
		"an error of the wild": {say(500, json, `{"message":"oops"}`), "not a key release agent's answer"},
	} {
		t.Run(name, func(t *testing.T) {
			a.Odd(c.answer)
			text, _, err := decrypt(t.Context(), o, raw)
			if err == nil || text != "" || errors.Is(err, client.ErrRefused) || !strings.Contains(err.Error(), c.why) {
				t.Errorf("%q, %v; want an error with %q", text, err, c.why)
			}
		})
	}
	a.Odd(say(403, json, `{"results":[{"refused":true}]}`))
	if _, _, err := decrypt(t.Context(), o, raw); !errors.Is(err, client.ErrRefused) {
		t.Errorf("a refusal: %v; want ErrRefused", err)
	}
}

func TestAnswerThatNeverComes(t *testing.T) {
	a := newAgent(t)
	alice := as(t, a, "alice")
	raw := encrypt(t, "x", to(t, alice, []kra.AccessID{"legal-team"})...)
	h, _, err := client.ReadHeader(strings.NewReader(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	a.Odd(func(w http.ResponseWriter, _ *http.Request) { <-done })
	defer close(done)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	var away *client.Unreachable
	if _, err := alice.Release(ctx, []block.Header{h}); !errors.As(err, &away) {
		t.Errorf("no answer in time: %v; want it unreachable", err)
	}
}
