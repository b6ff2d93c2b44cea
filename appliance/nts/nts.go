// Package nts asks time servers for the time over Network Time Security (RFC 8915), and says what most of several agree on.
//
//	NTS-KE: TLS 1.3 to the server, its certificate under the source's own authorities --> two keys, cookies, where its NTP is
//	NTP:    {header, unique identifier, cookie, authenticator} --> {header, unique identifier, authenticator {cookie}}
//
// An answer that is not authentic is none. What a network can still do is to hold answers back: that makes an answer less certain,
// or too uncertain to be used, and in the end the clock untrusted.
package nts

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/keyrelease/krabox/appliance/nts/siv"
)

// DefaultPort is that of NTS-KE (RFC 8915 section 7.1).
const DefaultPort = 4460

// Limits of what a server may say.
const (
	maxRecords = 64
	maxAnswer  = 16 << 10 // bytes of the key establishment
	maxCookies = 8
	maxCookie  = 1024 // bytes
	maxHost    = 253
)

// keWithin is how long the key establishment may take, the connection included.
const keWithin = 10 * time.Second

// A Server is where a source of time is, and who vouches for it.
type Server struct {
	Address string         // HOST:PORT of its key establishment
	Roots   *x509.CertPool // the authorities that may certify it: no others
	// Dial connects over "tcp" and "udp". A Read of the latter gives one datagram, a Write sends one.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Now is the time by which its certificate is judged.
	Now func() time.Time
}

// A session is what one key establishment agreed on.
type session struct {
	ntp      string   // HOST:PORT
	out, in  siv.AEAD // client to server, server to client
	cookies  [][]byte
	from, to time.Time // validity of its certificate
}

// Records of the key establishment (section 4.1).
const (
	critical = 1 << 15

	recordEnd     = 0
	recordNext    = 1
	recordError   = 2
	recordWarning = 3
	recordAEAD    = 4
	recordCookie  = 5
	recordServer  = 6
	recordPort    = 7

	protocolNTPv4 = 0
	aeadSIV       = 15 // AEAD_AES_SIV_CMAC_256
)

// asking is what a client says: NTPv4, by AEAD_AES_SIV_CMAC_256.
var asking = []byte{
	critical >> 8, recordNext, 0, 2, 0, protocolNTPv4,
	critical >> 8, recordAEAD, 0, 2, 0, aeadSIV,
	critical >> 8, recordEnd, 0, 0,
}

// establish agrees on keys with the server.
func (s Server) establish(ctx context.Context) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, keWithin)
	defer cancel()
	host, _, err := net.SplitHostPort(s.Address)
	if err != nil {
		return nil, err
	}
	raw, err := s.Dial(ctx, "tcp", s.Address)
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	late := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Now()) })
	defer late()
	c := tls.Client(raw, &tls.Config{RootCAs: s.Roots, ServerName: host, Time: s.Now, MinVersion: tls.VersionTLS13, NextProtos: []string{"ntske/1"}})
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("establish keys: %w", err)
	}
	state := c.ConnectionState()
	if state.NegotiatedProtocol != "ntske/1" {
		return nil, errors.New("establish keys: the server does not speak ntske/1")
	}
	if _, err := c.Write(asking); err != nil {
		return nil, fmt.Errorf("establish keys: %w", err)
	}
	a, err := readAnswer(io.LimitReader(c, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("establish keys: %w", err)
	}
	leaf := state.PeerCertificates[0]
	out := &session{cookies: a.cookies, from: leaf.NotBefore, to: leaf.NotAfter, ntp: net.JoinHostPort(a.host, strconv.Itoa(int(a.port)))}
	if a.host == "" {
		out.ntp = net.JoinHostPort(host, strconv.Itoa(int(a.port)))
	}
	if out.out, err = export(state, 0); err == nil {
		out.in, err = export(state, 1)
	}
	return out, err
}

// export derives one direction's key (section 5.1).
func export(state tls.ConnectionState, direction byte) (siv.AEAD, error) {
	k, err := state.ExportKeyingMaterial("EXPORTER-network-time-security", []byte{0, protocolNTPv4, 0, aeadSIV, direction}, siv.KeySize)
	if err != nil {
		return siv.AEAD{}, fmt.Errorf("establish keys: %w", err)
	}
	defer clear(k)
	return siv.New([siv.KeySize]byte(k)), nil
}

// An answer is what the server's records say.
type answer struct {
	next, aead bool
	cookies    [][]byte
	host       string // of its NTP; empty: the same
	port       uint16
}

// readAnswer reads the records to the end of the message.
func readAnswer(r io.Reader) (answer, error) {
	a := answer{port: 123}
	for range maxRecords {
		var h [4]byte
		if _, err := io.ReadFull(r, h[:]); err != nil {
			return a, fmt.Errorf("read record: %w", err)
		}
		kind := binary.BigEndian.Uint16(h[:])
		body := make([]byte, binary.BigEndian.Uint16(h[2:]))
		if _, err := io.ReadFull(r, body); err != nil {
			return a, fmt.Errorf("read record: %w", err)
		}
		if kind&^critical == recordEnd {
			return a, a.check()
		}
		if err := a.take(kind, body); err != nil {
			return a, err
		}
	}
	return a, errors.New("too many records")
}

func (a answer) check() error {
	if !a.next || !a.aead || len(a.cookies) == 0 {
		return errors.New("the server does not serve NTPv4 with AEAD_AES_SIV_CMAC_256")
	}
	return nil
}

func (a *answer) take(kind uint16, body []byte) error {
	number := -1
	if len(body) == 2 {
		number = int(binary.BigEndian.Uint16(body))
	}
	switch kind &^ critical {
	case recordNext:
		if a.next || number != protocolNTPv4 {
			return errors.New("the server does not serve NTPv4")
		}
		a.next = true
	case recordAEAD:
		if a.aead || number != aeadSIV {
			return errors.New("the server does not have AEAD_AES_SIV_CMAC_256")
		}
		a.aead = true
	case recordError, recordWarning:
		return fmt.Errorf("the server says error or warning %d", number)
	case recordCookie:
		if len(body) == 0 || len(body) > maxCookie || len(a.cookies) >= maxCookies {
			return fmt.Errorf("cookies are too many or too long")
		}
		a.cookies = append(a.cookies, body)
	case recordServer:
		if len(body) == 0 || len(body) > maxHost {
			return errors.New("the name of the NTP server is too long")
		}
		a.host = string(body)
	case recordPort:
		if number <= 0 {
			return errors.New("the port of the NTP server is malformed")
		}
		a.port = uint16(number)
	default:
		if kind&critical != 0 {
			return fmt.Errorf("critical record %d is not known", kind&^critical)
		}
	}
	return nil
}
