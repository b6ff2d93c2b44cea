package boot

import (
	"strings"
	"testing"

	"github.com/keyrelease/krabox/boot/disks"
	"github.com/keyrelease/krabox/boot/disks/diskstest"
	"github.com/keyrelease/krabox/boot/machine"
)

// TestDisksOfAnOpenBox: disks are touched for a box that is in service, and for no other; on a host for nobody.
func TestDisksOfAnOpenBox(t *testing.T) {
	drawer := diskstest.New(t).Drawer
	for _, mode := range []string{"", modeFactory, modeLocked, modeMaintenance, modeEnrolled} {
		b := &box{o: Options{Disks: &drawer}, clerk: disks.Clerk{Drawer: drawer}, mode: mode}
		for _, do := range []machine.DiskVerb{machine.DiskList, machine.DiskPart, machine.DiskRead, machine.DiskWrite} {
			_, err := handler{b}.Disk(machine.DiskRequest{Do: do})
			if mode == modeEnrolled && do == machine.DiskList && err != nil {
				t.Errorf("%s in service: %v", do, err)
			}
			if mode != modeEnrolled && (err == nil || !strings.Contains(err.Error(), "touches no disks")) {
				t.Errorf("%s, the box is %q: %v", do, mode, err)
			}
		}
	}
	if _, err := (handler{&box{mode: modeEnrolled}}).Disk(machine.DiskRequest{Do: machine.DiskList}); err == nil || !strings.Contains(err.Error(), "disks of this host") {
		t.Errorf("on a host: %v", err)
	}
}
