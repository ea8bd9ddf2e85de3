"""A real job: train and test a small classifier on scikit-learn's bundled handwritten digits.

Needs the test extra. Prints the accuracy, which is the same at every run.
"""

from __future__ import annotations

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def main() -> None:
    images, digits = load_digits(return_X_y=True)
    train, test, train_digits, test_digits = train_test_split(images, digits, random_state=0)
    model = make_pipeline(
        StandardScaler(), MLPClassifier(hidden_layer_sizes=(64,), max_iter=80, tol=0.0, random_state=0)
    )
    model.fit(train, train_digits)
    print(f"{len(train)} images, accuracy on {len(test)} others: {model.score(test, test_digits):.3f}")


if __name__ == "__main__":
    import warnings

    from sklearn.exceptions import ConvergenceWarning

    warnings.simplefilter("ignore", ConvergenceWarning)
    main()
