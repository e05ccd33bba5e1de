//! Devices by name: the CPU and GPUs.

use crate::error::{Error, Result};
use candle_core::Device;

/// The environment variable that names the device of models loaded without the option `device`.
const VARIABLE: &str = "SAESCOPE_DEVICE";

/// Returns the device with a name: "cpu"; "cuda" or "cuda:N" for an NVIDIA GPU, counted from 0; "metal" for an Apple GPU; "auto"
/// for a GPU if there is one, otherwise the CPU. `None` is what `SAESCOPE_DEVICE` says, or else the CPU. The same name gives the
/// same device.
///
/// # Errors
/// Another name; a GPU that does not exist or that this build does not support; a missing driver or library.
pub fn open(name: Option<&str>) -> Result<Device> {
    let variable = std::env::var(VARIABLE).ok().filter(|name| !name.is_empty());
    match (name, &variable) {
        (Some(name), _) => named("`device`", name),
        (None, Some(name)) => named(&format!("`{VARIABLE}`"), name),
        (None, None) => Ok(Device::Cpu),
    }
}

fn named(what: &str, name: &str) -> Result<Device> {
    let index = |text: &str| text.parse::<usize>().ok();
    match (name, name.strip_prefix("cuda:").and_then(index)) {
        ("cpu", _) => Ok(Device::Cpu),
        ("auto", _) => automatic(what),
        ("cuda", _) => cuda::open(what, 0),
        (_, Some(index)) => cuda::open(what, index),
        ("metal", _) => metal::open(),
        _ => {
            let names = "\"cpu\", \"cuda\", \"cuda:N\" for GPU N, counted from 0, \"metal\" or \"auto\"";
            Err(Error::invalid(what, names, format!("\"{name}\"")))
        }
    }
}

/// A GPU if there is one, otherwise the CPU. A GPU that cannot be used is an error.
fn automatic(what: &str) -> Result<Device> {
    if cuda::is_there() {
        return cuda::open(what, 0);
    }
    if cfg!(feature = "metal") { metal::open() } else { Ok(Device::Cpu) }
}

#[cfg(feature = "cuda")]
mod cuda {
    use super::*;
    use saescope_kernels::cuda::{self, LEAST, Versions, versions};
    use std::collections::BTreeMap;
    use std::sync::{LazyLock, Mutex, PoisonError};

    const ON_CPU: &str = "or use `device: \"cpu\"`";

    /// Whether there is a driver and a GPU.
    pub(super) fn is_there() -> bool {
        cuda::count().is_ok_and(|count| count > 0)
    }

    /// The GPU with this index, opened once: candle's tensors of two openings do not work together.
    pub(super) fn open(what: &str, index: usize) -> Result<Device> {
        static OPEN: LazyLock<Mutex<BTreeMap<usize, Device>>> = LazyLock::new(Mutex::default);
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(device) = open.get(&index) {
            return Ok(device.clone());
        }
        let found = versions(index).map_err(|error| explained(what, index, error))?;
        check(found)?;
        let device = cuda::open(index).map_err(|error| explained(what, index, error))?;
        open.insert(index, device.clone());
        Ok(device)
    }

    /// Checks that the driver and the GPU are not too old.
    pub(super) fn check(Versions { driver, compute: (major, minor) }: Versions) -> Result<()> {
        if driver < LEAST.driver {
            return Err(Error::mismatch(
                format!("NVIDIA's driver is too old: it knows CUDA {}.{}", driver / 1000, driver % 1000 / 10),
                format!("install version 580 or later, which knows CUDA 13, {ON_CPU}"),
            ));
        }
        if (major, minor) < LEAST.compute {
            return Err(Error::mismatch(
                format!("the GPU is too old: it has compute capability {major}.{minor}, and 8.0 is needed"),
                format!("choose another with `device: \"cuda:N\"`, {ON_CPU}"),
            ));
        }
        Ok(())
    }

    /// Says in a sentence why a GPU cannot be opened.
    fn explained(what: &str, index: usize, error: candle_core::Error) -> Error {
        let text = error.to_string();
        let has = |code: &str| text.contains(code);
        if has("CUDA_ERROR_STUB_LIBRARY") {
            let hint = format!("install NVIDIA's driver, version 580 or later, {ON_CPU}");
            return Error::mismatch("there is no NVIDIA driver: libcuda.so.1 was not found", hint);
        }
        if has("CUBLAS_STATUS_NOT_INITIALIZED") || has("CURAND") {
            let hint = "install both, for example with `pip install nvidia-cublas nvidia-curand`, and set SAESCOPE_CUDA_LIBS to \
                        their folders, separated by `:`";
            let message =
                "cuBLAS 13 or cuRAND was not found (libcublas.so.13, libcurand.so.10), or does not start";
            return Error::mismatch(message, hint);
        }
        match cuda::count() {
            Ok(0) => Error::mismatch("there is no NVIDIA GPU", format!("check `nvidia-smi`, {ON_CPU}")),
            Ok(count) if index >= count => {
                let expected = match count {
                    1 => "`cuda:0`, the only GPU".to_owned(),
                    _ => format!("a GPU from `cuda:0` to `cuda:{}`", count - 1),
                };
                Error::invalid(what, expected, format!("`cuda:{index}`"))
            }
            _ => Error::from(error),
        }
    }
}

#[cfg(not(feature = "cuda"))]
mod cuda {
    use super::*;

    pub(super) fn is_there() -> bool {
        false
    }

    pub(super) fn open(_: &str, _: usize) -> Result<Device> {
        Err(Error::mismatch(
            "this build of saescope does not support NVIDIA GPUs",
            "build it with `--features cuda`, or use `device: \"cpu\"`",
        ))
    }
}

#[cfg(feature = "metal")]
mod metal {
    use super::*;

    pub(super) fn open() -> Result<Device> {
        static DEVICE: std::sync::Mutex<Option<Device>> = std::sync::Mutex::new(None);
        let mut device = DEVICE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &*device {
            Some(device) => Ok(device.clone()),
            None => Ok(device.insert(Device::new_metal(0)?).clone()),
        }
    }
}

#[cfg(not(feature = "metal"))]
mod metal {
    use super::*;

    pub(super) fn open() -> Result<Device> {
        Err(Error::mismatch(
            "this build of saescope does not support Apple GPUs",
            "build it on a Mac with `--features metal`, or use `device: \"cpu\"`",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_device_are_errors() {
        for name in ["gpu", "cuda:", "cuda:x", "cuda:-1", "CPU", ""] {
            let error = open(Some(name)).unwrap_err().to_string();
            assert!(error.contains("\"cuda:N\"") && error.ends_with(&format!("got \"{name}\"")), "{error}");
        }
        assert!(open(Some("cpu")).unwrap().is_cpu());
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn drivers_and_gpus_that_are_too_old_are_errors() {
        use saescope_kernels::cuda::{LEAST, Versions};
        assert!(cuda::check(LEAST).is_ok());
        let error = cuda::check(Versions { driver: 12_080, ..LEAST }).unwrap_err();
        assert!(error.to_string().contains("it knows CUDA 12.8"), "{error}");
        let error = cuda::check(Versions { compute: (7, 5), ..LEAST }).unwrap_err();
        assert!(error.to_string().contains("compute capability 7.5"), "{error}");
    }
}
