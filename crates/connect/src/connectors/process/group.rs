//! The process group of a child, and what ends it whatever happens to us.
//!
//! Every child leads a group of its own, so that a signal reaches all that it has started. While a
//! group is there, dropping its [`Group`] kills it: a source that is dropped leaves nothing behind.
//!
//! Should this process itself die, by a signal that cannot be caught or otherwise, nobody is left to
//! do that. So a small shell waits at the other end of a pipe, in a group of its own, and knows which
//! group there is: when the pipe is closed and nobody said that the group has ended, it ends it.
//! Linux could tell the child directly (`PR_SET_PDEATHSIG`), but only from code run between fork and
//! exec, which is unsafe, and only the child and not its group.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};

/// Reads the number of the group that is there, or 0, a line each time it changes. Its argument is
/// how many seconds a group may take to end.
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

/// The group of a child that was started.
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

    /// Asks all of the group to end.
    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends all of the group. Nothing is left that a second call could reach.
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

/// The shell that outlives us, but not its own `Watcher`: that is only dropped by one who lives, and
/// drops the group as well.
pub(super) struct Watcher {
    shell: Child,
    pipe: ChildStdin,
}

impl Watcher {
    /// Starts it; `None`, and a warning, if this machine has no shell.
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

    /// From now on it ends this group when we die.
    pub(super) async fn watch(&mut self, group: &Group) {
        let id = Pid::as_raw(group.id);
        self.tell(id).await;
    }

    /// The group has ended.
    pub(super) async fn forget(&mut self) {
        self.tell(0).await;
    }

    async fn tell(&mut self, id: i32) {
        if let Err(error) = self.pipe.write_all(format!("{id}\n").as_bytes()).await {
            tracing::warn!(%error, "the watcher has ended: a child may outlive a crash of this process");
        }
    }

    /// Lets it end, with no group to end.
    pub(super) async fn dismiss(mut self) {
        self.forget().await;
        drop(self.pipe);
        let _ = self.shell.wait().await;
    }
}
