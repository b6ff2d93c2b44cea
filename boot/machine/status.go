package machine

// State is where a daemon is in its life.
type State string

// The states of a daemon.
const (
	Starting State = "starting" // runs, has not said READY yet
	Ready    State = "ready"
	Waiting  State = "waiting" // ended, will be started again
	Stopped  State = "stopped" // will not be started again
)

// A Service is one daemon as its supervisor sees it.
type Service struct {
	Name     string `json:"name"`
	State    State  `json:"state"`
	PID      int    `json:"pid"`      // in process 1's eyes; 0 when it does not run
	Restarts int    `json:"restarts"` // since the boot
	Said     string `json:"said"`     // its last STATUS=
	Ended    string `json:"ended"`    // why it last ended, empty if it never did
}

// A Port is a network interface of the box.
type Port struct {
	Name      string   `json:"name"`
	MAC       string   `json:"mac"`
	Up        bool     `json:"up"` // has a carrier
	Addresses []string `json:"addresses"`
}

// Status is how the machine is.
type Status struct {
	Mode     string    `json:"mode"`   // factory, enrolled, maintenance or locked
	Reason   string    `json:"reason"` // why it is locked or in maintenance
	Stage    string    `json:"stage"`  // last stage extended into PCR 14 in this boot
	Services []Service `json:"services"`
	Ports    []Port    `json:"ports"`
	Network  string    `json:"network"` // what the network is doing, in words

	Programs  []string `json:"programs,omitempty"`  // of those that the image's manifest lists, which run
	Strangers []string `json:"strangers,omitempty"` // what else runs: nothing, on a sound box

	Sensors []Sensor `json:"sensors,omitempty"` // at most MaxSensors
}

// A Program is a file whose code runs, as the image's list has it, and what came of reading it in the memory of the box.
type Program struct {
	Path  string `json:"path"`
	Of    int    `json:"of"`              // how many there are; 0, and no path, where there is no list
	Fault string `json:"fault,omitempty"` // why it is not what the list says
}
