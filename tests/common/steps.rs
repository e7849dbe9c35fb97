//! Steps that follow each other, each told with the time that it took. The program of tests/nspawn
//! has this file, too.

use std::time::Instant;

/// Its name, and what it does; each begins where the one before has ended.
pub type Step<T> = (&'static str, fn(&mut T));

pub fn run<T>(test: &mut T, steps: &[Step<T>]) {
    for (name, step) in steps {
        let start = Instant::now();
        println!("          {name}…");
        step(test);
        println!("{:6.1} s  {name}", start.elapsed().as_secs_f64());
    }
}
