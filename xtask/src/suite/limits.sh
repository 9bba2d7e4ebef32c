#!/bin/bash
# Runs inside the virtual machine of `suite limits`, as a service of systemd: the tests of limits in every place that a host
# may find itself in. Prints one line `place NAME: passed` or `place NAME: FAILED` for each.
cd /
tests=/shared/debug/deps
# What shows that all three controllers are there; the whole of it takes minutes without KVM.
some="a_hog_of_memory a_hog_of_the_processor all_limits_together"
failed=0

# place NAME COMMAND [ARG…]
place() {
    local name=$1
    shift
    echo "--- $name"
    if "$@"; then echo "place $name: passed"; else
        echo "place $name: FAILED"
        failed=1
    fi
}

# A command in a group of its own at this path, as root.
in_group() {
    local group=/sys/fs/cgroup$1
    shift
    bash -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$group" "$@"
}

root_of_the_hierarchy() {
    in_group "" "$tests/limits" && in_group "" "$tests/contract"
}

# systemd's own way. Each runs alone in a service, as a host would.
service() {
    systemd-run --quiet --wait --pipe --collect --setenv=MAINSTAY_REQUIRE_CGROUPS=1 --property=TasksMax=infinity "$@"
}

delegated_service() {
    service --property=Delegate=yes "$tests/limits" && service --property=Delegate=yes "$tests/contract"
}

delegated_scope() {
    systemd-run --quiet --scope --collect --property=Delegate=yes "$tests/limits" $some
}

delegated_to_a_user() {
    service --property=Delegate=yes --property=User=tester "$tests/limits" $some
}

# A part of the hierarchy given away by hand, as container engines do; its name is no unit's.
chowned_group() {
    local group=/sys/fs/cgroup/given
    mkdir "$group" && echo "+memory +pids" >/sys/fs/cgroup/cgroup.subtree_control &&
        chown tester "$group" "$group/cgroup.procs" "$group/cgroup.subtree_control" "$group/cgroup.threads" || return 1
    # Only what systemd leaves on at the root for a group that is not its own: it takes the processor's back.
    in_group /given setpriv --reuid tester --regid tester --clear-groups "$tests/limits" a_hog_of_memory a_fork_bomb ||
        return 1
    [ "$(cat "$group/cgroup.subtree_control")" = "" ] && rmdir "$group"
}

# The user's own manager, which delegates what it was given.
users_manager() {
    local uid units=/home/tester/.config/systemd/user outcome=0
    uid=$(id -u tester)
    mkdir -p "$units" && cat >"$units/limits.service" <<UNIT
[Service]
Type=oneshot
Delegate=yes
Environment=MAINSTAY_REQUIRE_CGROUPS=1
ExecStart=$tests/limits a_fork_bomb a_hog_of_memory
StandardOutput=file:/home/tester/output
StandardError=inherit
UNIT
    chown -R tester /home/tester
    # What libpam-systemd would set.
    mkdir -p "/run/systemd/system/user@$uid.service.d"
    printf '[Service]\nEnvironment=XDG_RUNTIME_DIR=/run/user/%s\n' "$uid" >"/run/systemd/system/user@$uid.service.d/dir.conf"
    systemctl daemon-reload
    systemctl start "user@$uid.service" || { journalctl --unit "user@$uid.service" --no-pager --lines 20 && return 1; }
    setpriv --reuid tester --regid tester --clear-groups env XDG_RUNTIME_DIR="/run/user/$uid" \
        systemctl --user start limits.service || outcome=1
    cat /home/tester/output
    return $outcome
}

# Not given away: nothing is changed, and the reason names the remedy.
plain_service() {
    local output
    output=$(systemd-run --quiet --wait --pipe --collect "$tests/limits" --ignored --exact what_is_in_force --nocapture)
    echo "$output"
    grep -q 'pids: not in force: .*Delegate=yes' <<<"$output"
}

# A host that is killed in a delegated unit: its unit is restarted, and holds the limits again.
restarted_service() {
    local try output
    rm -rf /tmp/host && mkdir /tmp/host
    systemd-run --quiet --unit=restarted --property=Delegate=yes --property=Restart=always --property=RestartSec=0 \
        --setenv=LIMITS_HOST_DIR=/tmp/host "$tests/limits" --ignored --exact as_a_host_of_its_own --nocapture || return 1
    for round in 1 2 3; do
        for ((try = 0; try < 200; try++)); do
            output=$(journalctl --unit=restarted --output=cat | grep -c '^held true')
            [ "$output" -ge "$round" ] && break
            sleep 0.1
        done
        [ "$output" -ge "$round" ] || break
        systemctl kill --kill-whom=main --signal=KILL restarted
    done
    systemctl stop restarted
    journalctl --unit=restarted --output=cat | grep '^held'
    [ "$output" -ge 3 ]
}

useradd --create-home tester
export MAINSTAY_REQUIRE_CGROUPS=1
echo "kernel $(uname -r), controllers: $(cat /sys/fs/cgroup/cgroup.controllers)"
place "root of the hierarchy" root_of_the_hierarchy
place "delegated service" delegated_service
place "delegated scope" delegated_scope
place "service of an ordinary user" delegated_to_a_user
place "group given to an ordinary user" chowned_group
place "manager of an ordinary user" users_manager
place "service without delegation" plain_service
place "service whose host is killed" restarted_service
exit $failed
