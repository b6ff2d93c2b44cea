package tpm

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// Handles of what stays in the TPM: the SRK where the TCG wants it, the indexes in the owner's range.
const (
	srkHandle      = 0x81000001
	epochHandle    = 0x01800002
	recordHandle   = 0x01800010
	halfHandle     = 0x01800011
	presenceHandle = 0x01800012
)

// An index is an NV index as the domain wants it. Its Name follows offline, so an index of other attributes or another
// policy under the same handle is never taken for it.
type index struct {
	what   string
	handle tpm2.TPMHandle
	policy policy // no branches: none
	size   uint16
	attrs  tpm2.TPMANV
}

// epoch holds the lowest version that may still run, big-endian. Anyone may read it.
func (p plan) epoch() index {
	return index{"epoch index", epochHandle, p.home().under(label.Epoch), 8,
		tpm2.TPMANV{PolicyWrite: true, AuthRead: true, WriteAll: true, NoDA: true, NT: tpm2.TPMNTOrdinary}}
}

// record holds the label.Record against rollback. Anyone may read it; only a running, approved box writes it.
func (p plan) record() index {
	return index{"record index", recordHandle, p.home().under(label.Sign), label.RecordSize,
		tpm2.TPMANV{PolicyWrite: true, AuthRead: true, WriteAll: true, NoDA: true, NT: tpm2.TPMNTOrdinary}}
}

// half holds half of what the state is encrypted under: read at open, written at running.
func (p plan) half() index {
	return index{"half index", halfHandle, p.halfPolicy(), wire.SecretSize,
		tpm2.TPMANV{PolicyWrite: true, PolicyRead: true, WriteAll: true, NoDA: true, NT: tpm2.TPMNTOrdinary}}
}

// presence stands for an operator who knows its passphrase. It is noDA: else a stranger could lock the operator out,
// which is why the passphrase is generated and not chosen.
func (p plan) presence() index {
	return index{"presence index", presenceHandle, policy{}, 8,
		tpm2.TPMANV{AuthRead: true, AuthWrite: true, NoDA: true, NT: tpm2.TPMNTOrdinary}}
}

func (p plan) indexes() []index { return []index{p.epoch(), p.record(), p.half(), p.presence()} }

// wasWritten says whether an index was ever written: that is part of its Name.
type wasWritten uint8

const (
	unwritten wasWritten = iota + 1
	written
)

func (x index) public() (tpm2.TPMSNVPublic, error) {
	pub := tpm2.TPMSNVPublic{NVIndex: x.handle, NameAlg: tpm2.TPMAlgSHA256, DataSize: x.size, Attributes: x.attrs}
	if len(x.policy.branches) == 0 {
		return pub, nil
	}
	d, err := x.policy.digest()
	pub.AuthPolicy = tpm2.TPM2BDigest{Buffer: d[:]}
	return pub, err
}

// name is calculated, never asked.
func (x index) name(w wasWritten) (tpm2.TPM2BName, error) {
	pub, err := x.public()
	if err != nil {
		return tpm2.TPM2BName{}, err
	}
	pub.Attributes.Written = w == written
	n, err := tpm2.NVName(&pub)
	if err != nil {
		return tpm2.TPM2BName{}, fmt.Errorf("calculate Name of %s: %w", x.what, err)
	}
	return *n, nil
}

// presence of an index in the TPM.
type condition uint8

const (
	absent condition = iota + 1
	defined
	holding // written
	foreign // something else is under the handle
)

// condition asks the TPM what lies under the handle. The answer only chooses what to try: every read and write is bound
// to the calculated Name.
func (d *Device) condition(x index) (condition, error) {
	r, err := tpm2.NVReadPublic{NVIndex: x.handle}.Execute(d)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return absent, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read public area of %s: %w", x.what, err)
	}
	for w, c := range map[wasWritten]condition{unwritten: defined, written: holding} {
		n, err := x.name(w)
		if err != nil {
			return 0, err
		}
		if string(n.Buffer) == string(r.NVName.Buffer) {
			return c, nil
		}
	}
	return foreign, nil
}

// readPlain reads an index that anyone may read, in a salted HMAC session under the calculated Name. (In a password
// session the TPM does not check the Name, and a forged index would be believed.)
func (d *Device) readPlain(srk object, x index) ([]byte, error) {
	n, err := x.name(written)
	if err != nil {
		return nil, err
	}
	r, err := tpm2.NVRead{AuthHandle: tpm2.AuthHandle{Handle: x.handle, Name: n, Auth: srk.hmac()},
		NVIndex: tpm2.NamedHandle{Handle: x.handle, Name: n}, Size: x.size}.Execute(d)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", x.what, err)
	}
	return r.Data.Buffer, nil
}

// define makes an index while ownerAuth is still empty; auth crosses the bus encrypted.
func (d *Device) define(srk object, x index, auth []byte) error {
	pub, err := x.public()
	if err != nil {
		return err
	}
	_, err = tpm2.NVDefineSpace{AuthHandle: owner(srk.hmac(encryptIn)), Auth: tpm2.TPM2BAuth{Buffer: auth}, PublicInfo: tpm2.New2B(pub)}.Execute(d)
	if err != nil {
		return fmt.Errorf("define %s: %w", x.what, err)
	}
	return nil
}

func owner(s tpm2.Session) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: s}
}
