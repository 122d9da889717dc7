/** A component that is drawn again only if its properties differ (as in preact/compat). */
import { Component, createElement, type ComponentType, type FunctionComponent } from "preact";

export function memo<P extends object>(
  plain: FunctionComponent<P>,
  same: (before: P, after: P) => boolean,
): ComponentType<P> {
  return class Memo extends Component<P> {
    override shouldComponentUpdate(next: P): boolean {
      return !same(this.props as P, next);
    }

    override render() {
      return createElement(plain, this.props as P);
    }
  } as unknown as ComponentType<P>;
}
