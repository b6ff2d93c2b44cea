package boot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyrelease/krabox/boot/compartment"
	"github.com/keyrelease/krabox/boot/disks"
)

// Where things are in the image.
const (
	imageRun      = "/run/kra"
	imageState    = "/state"
	imageBin      = "/bin"
	imageDomain   = "/etc/kra/domain.json"
	imageManifest = "/etc/kra/manifest.json"
	imageModules  = "/etc/kra/modules"
	imageModule   = "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"
	imageTPM      = "/dev/tpm0"
	firmwareLog   = "/sys/kernel/security/tpm0/binary_bios_measurements"
	releasePort   = ":8443"
	healthWord    = "kra.health=" // word of the kernel's command line, measured: the address for health, such as :9443
	consoleWord   = "console="    // the same: the serial line and its speed, as the kernel takes them
	faultPatience = 10 * time.Second
)

// Init is process 1 of the image. It does not return.
//
// Each step below may fail. Then the box is locked with that step's error as the reason, as far as daemons can be started at
// all: a box that has not set its limits or found its disk opens nothing. The order matters: modules before the disk and before
// they are forbidden, all of it before the TPM is asked for anything.
func Init() {
	if os.Getpid() != 1 { // before anything else: Halt kills all that runs
		fmt.Fprintln(os.Stderr, "init: this is process 1 of the appliance's image and nothing else")
		os.Exit(2)
	}
	s := &screen{}
	how := Restart
	defer func() {
		if r := recover(); r != nil {
			s.say(fmt.Sprintf("process 1 failed: %v %s", r, debug.Stack()))
			time.Sleep(faultPatience)
		}
		Halt(how, imageState)
	}()
	unix.Umask(0o077)
	// Nobody tells process 1 what to do by signals; unheard, they would end it. Daemons do not inherit this, as they would SIG_IGN.
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM)
	m := &machineBoot{screen: s}
	o := m.prepare()
	err := Run(context.Background(), o)
	if err != nil {
		err = runLocked(o, err)
	}
	if err != nil {
		s.say(err.Error())
		time.Sleep(faultPatience)
		return
	}
	how = PowerOff
	s.say("power off")
}

// runLocked runs a box whose daemons could not be started, say for what is on its state partition: without that partition, and
// locked, so that somebody at the console learns why.
func runLocked(o Options, why error) error {
	if err := emptyState(); err != nil {
		return errors.Join(why, err)
	}
	o.Fault = oneLine(why)
	return Run(context.Background(), o)
}

// emptyState puts an empty folder in the state's place: what daemons write there is gone with the next boot.
func emptyState() error {
	if err := unix.Mount("tmpfs", imageState, "tmpfs", plainMount, "mode=0711,size=16m"); err != nil {
		return fmt.Errorf("do without state: %w", err)
	}
	return nil
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// machineBoot is what the image does before its daemons.
type machineBoot struct {
	screen *screen
	tty    string
	faults []error
}

// must notes a step that failed.
func (m *machineBoot) must(err error) {
	if err != nil {
		m.faults = append(m.faults, err)
	}
}

// prepare does all steps and returns what to run.
func (m *machineBoot) prepare() Options {
	m.must(mountAll())
	m.must(quietKernel())
	m.must(m.openScreen())
	m.screen.say("key release agent, starting")
	m.must(setSysctls("/proc/sys", sysctls[:]...)) // an interface takes its defaults when its driver finds it
	m.must(loadModules(imageModules, pciDevices, processors, m.screen.say))
	m.must(setSysctls("/proc/sys", noMoreModules))
	m.must(ignoreControlAltDelete())
	m.must(m.findState())
	m.must(sealRoot(imageBin))
	m.must(giveDevices(m.tty))
	o := m.options()
	log, err := copyEventLog(firmwareLog, imageRun)
	m.must(err)
	o.EventLog = log
	o.Model, o.Serial = machineNames("/sys/class/dmi/id")
	if err := errors.Join(m.faults...); err != nil {
		o.Fault = oneLine(err)
	}
	return o
}

func (m *machineBoot) options() Options {
	h := &hardware{}
	h.port.say = func(format string, args ...any) { m.screen.say(fmt.Sprintf(format, args...)) }
	h.port.names = namesDir(imageRun)
	drawer := disks.Kernel()
	return Options{
		Kind: compartment.Sealed, Run: imageRun, State: imageState, BinDir: imageBin,
		TPM: imageTPM, Domain: imageDomain, Manifest: imageManifest, Module: imageModule, Release: releasePort, Health: healthAddress(commandLine()), TTY: m.tty, Baud: speedOf(commandLine(), m.tty),
		Preloaded: readPreloaded,
		Disks:     &drawer, Sensors: sensorClasses,
		Hardware: h, Say: m.screen.say, Output: kernelLog{},
		Reset: func(context.Context) error {
			m.screen.say("restart")
			Halt(Restart, imageState)
			return nil
		},
	}
}

func (m *machineBoot) openScreen() error {
	tty, err := findTTY(activeConsole)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(tty, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return fmt.Errorf("open console: %w", err)
	}
	m.tty, m.screen.tty = tty, f
	return nil
}

func (m *machineBoot) findState() error {
	device, err := mountState(imageState)
	if err != nil {
		return errors.Join(err, emptyState())
	}
	m.screen.say("state on " + device)
	return nil
}

func ignoreControlAltDelete() error {
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF); err != nil {
		return fmt.Errorf("ignore control-alt-delete: %w", err)
	}
	return nil
}

// commandLine is the kernel's, which is measured.
func commandLine() string {
	b, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return ""
	}
	return string(b)
}

// healthAddress is the address of the health listener; without a word on the command line there is none.
func healthAddress(line string) string {
	for word := range strings.FieldsSeq(line) {
		if a, ok := strings.CutPrefix(word, healthWord); ok {
			return a
		}
	}
	return ""
}

// speedOf is the speed at which the kernel was told to have its console on tty, as in console=ttyS0,9600n8; 0: it was not told.
func speedOf(line, tty string) (baud int) {
	for word := range strings.FieldsSeq(line) {
		where, ok := strings.CutPrefix(word, consoleWord)
		device, how, said := strings.Cut(where, ",")
		if !ok || !said || filepath.Join("/dev", device) != tty {
			continue
		}
		if end := strings.IndexFunc(how, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
			how = how[:end]
		}
		if n, err := strconv.ParseUint(how, 10, 31); err == nil {
			baud = int(n)
		}
	}
	return baud
}

// kernelLog passes daemons' lines into the kernel's ring buffer, which only process 1 reads. Nothing is lost if it is full.
type kernelLog struct{}

func (kernelLog) Write(line []byte) (int, error) {
	f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if _, err := f.Write(append([]byte("<14>"), line[:min(len(line), 900)]...)); err != nil {
		return 0, err
	}
	return len(line), nil
}
