package qemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// A monitor is a QMP connection (QEMU Machine Protocol). One command at a time.
type monitor struct {
	mu      sync.Mutex
	conn    net.Conn
	decoder *json.Decoder
}

const monitorTime = time.Minute

func dialMonitor(path string) (*monitor, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, err
	}
	m := &monitor{conn: conn, decoder: json.NewDecoder(conn)}
	var greeting struct{ QMP json.RawMessage }
	if err := conn.SetDeadline(time.Now().Add(monitorTime)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := m.decoder.Decode(&greeting); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if _, err := m.do("qmp_capabilities", nil); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return m, nil
}

// do executes a command and passes over events until its answer comes.
func (m *monitor) do(command string, arguments any) (json.RawMessage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.conn.SetDeadline(time.Now().Add(monitorTime)); err != nil {
		return nil, fmt.Errorf("monitor %s: %w", command, err)
	}
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := json.NewEncoder(m.conn).Encode(request); err != nil {
		return nil, fmt.Errorf("monitor %s: %w", command, err)
	}
	for {
		var answer struct {
			Return json.RawMessage `json:"return"`
			Error  json.RawMessage `json:"error"`
		}
		if err := m.decoder.Decode(&answer); err != nil {
			return nil, fmt.Errorf("monitor %s: %w", command, err)
		}
		if answer.Error != nil {
			return nil, fmt.Errorf("monitor %s: %s", command, answer.Error)
		}
		if answer.Return != nil {
			return answer.Return, nil
		}
	}
}

// human executes a command of the human monitor, for what QMP lacks.
func (m *monitor) human(command string) (string, error) {
	answer, err := m.do("human-monitor-command", map[string]string{"command-line": command})
	if err != nil {
		return "", err
	}
	var text string
	return text, json.Unmarshal(answer, &text)
}
