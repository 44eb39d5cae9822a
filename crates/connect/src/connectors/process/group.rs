//! The process group of a child, and what ends it even when this process dies.
//!
//! Every child leads a group of its own, so that a signal reaches all that it has started. Dropping a
//! [`Group`] kills the group: a source that is dropped leaves nothing behind.
//!
//! When this process itself is killed, it cannot do that. So a small shell, in a group of its own, waits at
//! the other end of a pipe and knows the running group: when the pipe is closed without a message that the
//! group has ended, the shell ends it. Linux could signal the child directly (`PR_SET_PDEATHSIG`), but only
//! with code that runs between fork and exec, which is unsafe, and only the child and not its group.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};

/// Reads the id of the running group, or 0, a line each time it changes. Its argument is the number of
/// seconds that a group may take to end.
const SCRIPT: &str = r#"
    group=0
    seconds=$1
    while read -r line; do group=$line; done
    if [ "$group" -gt 0 ] && kill -TERM "-$group"; then
        while [ "$seconds" -gt 0 ] && kill -0 "-$group"; do
            sleep 1
            seconds=$((seconds - 1))
        done
        kill -KILL "-$group"
    fi
"#;

pub(super) struct Group {
    id: Option<Pid>,
}

impl Group {
    pub(super) fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self {
            id: id.and_then(Pid::from_raw),
        }
    }

    /// Sends SIGTERM to the whole group.
    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGKILL to the whole group. A second call does nothing.
    pub(super) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.id = None;
    }

    fn signal(&self, signal: Signal) {
        if let Some(id) = self.id {
            // Fails only when the group has ended already.
            let _ = kill_process_group(id, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The shell that ends the group if this process dies. A process that drops the `Watcher` is alive, and
/// drops the group itself.
pub(super) struct Watcher {
    shell: Child,
    pipe: ChildStdin,
}

impl Watcher {
    /// Starts the shell; `None`, and a warning, if this machine has none.
    pub(super) fn start(grace: Duration) -> Option<Self> {
        let shell = Command::new("/bin/sh")
            .args([
                "-c",
                SCRIPT,
                "headwater-watcher",
                &grace.as_secs_f64().ceil().to_string(),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        match shell {
            Ok(mut shell) => shell.stdin.take().map(|pipe| Self { shell, pipe }),
            Err(error) => {
                tracing::warn!(%error, "no /bin/sh: a child may outlive a crash of this process");
                None
            }
        }
    }

    /// Makes the shell end this group when this process dies.
    pub(super) async fn watch(&mut self, group: &Group) {
        let id = Pid::as_raw(group.id);
        self.send(id).await;
    }

    /// Notes that the group has ended.
    pub(super) async fn forget(&mut self) {
        self.send(0).await;
    }

    async fn send(&mut self, id: i32) {
        if let Err(error) = self.pipe.write_all(format!("{id}\n").as_bytes()).await {
            tracing::warn!(%error, "the watcher has ended: a child may outlive a crash of this process");
        }
    }

    /// Ends the shell, with no group to end.
    pub(super) async fn dismiss(mut self) {
        self.forget().await;
        drop(self.pipe);
        let _ = self.shell.wait().await;
    }
}
